//! Imports a chat log from standard input, a line for each turn: user, role and text, with tabs between them.
//!
//! It goes out in segments of up to 1,000 requests, a stream for each. A segment whose stream breaks is sent again:
//! each turn has a request_id, so what was stored counts as duplicate.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::mem::take;
use std::time::{Duration, Instant};

use prost::Message;
use rand::random_range;
use reflexio::v1::interaction_service_client::InteractionServiceClient;
use reflexio::v1::{
    InteractionData, PublishInteractionStreamRequest, PublishInteractionStreamResponse, PublishInteractionsRequest,
};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const SEGMENT: usize = 1000; // as many as a verdict lists, so that no rejection goes unlisted
const SEGMENT_BYTES: usize = 8 << 20;
const PACKED_BYTES: usize = 64 << 10; // of a message with several requests; beyond, packing saves little
const PATIENCE: Duration = Duration::from_secs(120); // without any progress
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The reasons that stay the same however often the same is sent. All else may pass.
const REFUSALS: [&str; 6] =
    ["INVALID_FIELD", "LIMIT_EXCEEDED", "MALFORMED_MESSAGE", "NOT_FOUND", "REQUEST_ID_REUSED", "REQUEST_ERASED"];

type Client<I> = InteractionServiceClient<InterceptedService<Channel, I>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key: MetadataValue<Ascii> = format!("Bearer {}", env::var("REFLEXIO_API_KEY")?).parse()?;
    let channel = Endpoint::from_shared(format!("http://{}", env::var("REFLEXIO_ADDRESS")?))?.connect_lazy();
    let client = InteractionServiceClient::with_interceptor(channel, move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", key.clone());
        Ok(request)
    });
    let mut import = Import { client, per_message: 1, segment: Vec::new(), stored: 0, duplicate: 0, rejected: 0 };
    let mut lines = BufReader::new(stdin()).lines();
    let (mut number, mut bytes) = (0, 0);
    while let Some(line) = lines.next_line().await? {
        number += 1;
        bytes += line.len();
        import.segment.push(turn(number, &line));
        if import.segment.len() == SEGMENT || bytes >= SEGMENT_BYTES {
            import.settle().await?;
            bytes = 0;
        }
    }
    import.settle().await?;
    println!("{} stored, {} duplicate, {} rejected", import.stored, import.duplicate, import.rejected);
    Ok(())
}

/// The number of its line names a turn, so that the import can be started again.
fn turn(number: usize, line: &str) -> PublishInteractionsRequest {
    let mut parts = line.splitn(3, '\t').map(str::to_owned);
    let user_id = parts.next().unwrap_or_default();
    let (role, content) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    PublishInteractionsRequest {
        user_id,
        request_id: format!("chat-log_{number}"),
        source: "chat_log".into(),
        interactions: vec![InteractionData { role, content, ..Default::default() }],
        ..Default::default()
    }
}

struct Import<I: Interceptor> {
    client: Client<I>,
    /// How many requests a message may carry. Until a verdict has said more, one: a server of before takes a message
    /// with several for an empty one.
    per_message: usize,
    segment: Vec<PublishInteractionsRequest>, // what is not settled of it
    stored: u32,
    duplicate: u32,
    rejected: u32,
}

impl<I: Interceptor> Import<I> {
    /// Sends the segment until nothing of it is left.
    async fn settle(&mut self) -> Result<(), Status> {
        let (mut limit, mut wait, mut progress) = (SEGMENT, FIRST_WAIT, Instant::now());
        while !self.segment.is_empty() {
            let left = PATIENCE.saturating_sub(progress.elapsed());
            let size = limit.min(self.segment.len());
            // Half of what is left: a stream that hangs must leave time for another.
            if let Err(status) = self.send(size, left / 2).await.and_then(|verdict| self.read(size, verdict)) {
                match plan_after(&status) {
                    Plan::Hopeless => return Err(status),
                    Plan::Refused if size == 1 => {
                        let request = self.segment.remove(0);
                        self.reject(&request.request_id, &format!("{:?}", status.code()), status.message());
                    }
                    Plan::Refused => {
                        limit = size / 2;
                        continue;
                    }
                    Plan::Later { less, told } => {
                        limit = if less { (size / 2).max(1) } else { limit };
                        // Full jitter, so that clients do not come back all at once.
                        let pause = told + wait.mul_f64(random_range(0.0..1.0));
                        if pause > left {
                            return Err(status);
                        }
                        sleep(pause).await;
                        wait = (wait * 2).min(Duration::from_secs(5));
                        continue;
                    }
                }
            }
            (limit, wait, progress) = ((limit * 2).min(SEGMENT), FIRST_WAIT, Instant::now());
            println!("settled {}", self.stored + self.duplicate + self.rejected);
        }
        Ok(())
    }

    async fn send(&mut self, size: usize, limit: Duration) -> Result<PublishInteractionStreamResponse, Status> {
        let most = self.per_message;
        let call = self.client.publish_interaction_stream(tokio_stream::iter(pack(&self.segment[..size], most)));
        let answer = timeout(limit, call).await.map_err(|_| Status::deadline_exceeded("no verdict came"))?;
        let verdict = answer?.into_inner();
        self.per_message = (verdict.requests_per_message as usize).max(1);
        if self.per_message < most {
            // And so its verdict is on others than were sent.
            return Err(Status::unavailable("another server answers now, which takes fewer requests in a message"));
        }
        Ok(verdict)
    }

    fn reject(&mut self, request_id: &str, reason: &str, message: &str) {
        self.rejected += 1;
        println!("rejected {request_id}: {reason}: {message}");
    }

    /// Takes a verdict on so many; only what it leaves no doubt of is settled.
    fn read(&mut self, size: usize, verdict: PublishInteractionStreamResponse) -> Result<(), Status> {
        let counts = verdict.requests.unwrap_or_default();
        let handled = (counts.stored + counts.duplicate + counts.rejected) as usize;
        let listed: HashMap<_, _> = verdict.rejections.iter().map(|one| (one.index as usize, one)).collect();
        if listed.len() != counts.rejected as usize || handled > size {
            return Err(Status::internal("the server's verdict contradicts itself"));
        }
        (self.stored, self.duplicate) = (self.stored + counts.stored, self.duplicate + counts.duplicate);
        let before = self.segment.len();
        for (place, request) in take(&mut self.segment).into_iter().enumerate() {
            match listed.get(&place) {
                Some(one) if REFUSALS.contains(&one.reason.as_str()) => {
                    self.reject(&request.request_id, &one.reason, &one.message);
                }
                None if place < handled => {}
                _ => self.segment.push(request),
            }
        }
        if self.segment.len() == before {
            return Err(Status::unavailable("the stream ended before anything was settled"));
        }
        Ok(())
    }
}

/// Puts requests into messages of at most so many, in their order.
fn pack(requests: &[PublishInteractionsRequest], most: usize) -> Vec<PublishInteractionStreamRequest> {
    if most == 1 {
        let alone = |request: &PublishInteractionsRequest| Some(request.clone());
        let message = |request| PublishInteractionStreamRequest { request, ..Default::default() };
        return requests.iter().map(alone).map(message).collect();
    }
    let mut messages: Vec<PublishInteractionStreamRequest> = Vec::new();
    let mut bytes = 0; // of the last message
    for request in requests {
        let length = request.encoded_len();
        match messages.last_mut() {
            Some(last) if last.requests.len() < most && bytes + length <= PACKED_BYTES => {
                last.requests.push(request.clone());
                bytes += length;
            }
            _ => {
                messages
                    .push(PublishInteractionStreamRequest { requests: vec![request.clone()], ..Default::default() });
                bytes = length;
            }
        }
    }
    messages
}

/// How to go on after a stream failed.
enum Plan {
    /// Repeating does not help.
    Hopeless,
    /// Something in it is refused: find out which request.
    Refused,
    /// It may pass: after what the server asked for, and perhaps with half as much at a time.
    Later { less: bool, told: Duration },
}

/// Takes for a refusal what Reflexio or gRPC itself will say each time; all else passes, and first of all what there
/// was too much of at once.
fn plan_after(status: &Status) -> Plan {
    let told = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
    let info = status.get_details_error_info().filter(|info| info.domain == "reflexio");
    let refused = match info {
        Some(info) => REFUSALS.contains(&info.reason.as_str()),
        None => status.code() == Code::ResourceExhausted && is_too_large(status.message()),
    };
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => Plan::Hopeless,
        _ if refused && told.is_none() => Plan::Refused,
        code => Plan::Later {
            less: ![Code::Unavailable, Code::Aborted, Code::Cancelled, Code::ResourceExhausted].contains(&code),
            told: told.unwrap_or_default(),
        },
    }
}

/// How gRPC's implementations say it of a message.
fn is_too_large(message: &str) -> bool {
    let message = message.to_lowercase();
    let words =
        ["larger than max", "larger than configured", "message exceeds", "message too large", "length too large"];
    words.iter().any(|words| message.contains(words))
}
