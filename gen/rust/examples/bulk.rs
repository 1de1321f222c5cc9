//! Imports a chat log from standard input, a line for each turn: user, role and text, with tabs between them.
//!
//! It goes out in segments of up to 1,000 requests, a stream for each. A segment whose stream breaks is sent again:
//! each turn has a request_id, so what was stored counts as duplicate.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

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
const PATIENCE: Duration = Duration::from_secs(120); // without any progress

type Client<I> = InteractionServiceClient<InterceptedService<Channel, I>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key: MetadataValue<Ascii> = format!("Bearer {}", env::var("REFLEXIO_API_KEY")?).parse()?;
    let channel = Endpoint::from_shared(format!("http://{}", env::var("REFLEXIO_ADDRESS")?))?.connect_lazy();
    let client = InteractionServiceClient::with_interceptor(channel, move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", key.clone());
        Ok(request)
    });
    let mut import = Import { client, segment: Vec::new(), stored: 0, duplicate: 0, rejected: 0 };
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
    segment: Vec<PublishInteractionsRequest>, // what is not settled of it
    stored: u32,
    duplicate: u32,
    rejected: u32,
}

impl<I: Interceptor> Import<I> {
    /// Sends the segment until nothing of it is left.
    async fn settle(&mut self) -> Result<(), Status> {
        let (mut wait, mut progress) = (Duration::from_millis(100), Instant::now());
        while !self.segment.is_empty() {
            let left = PATIENCE.saturating_sub(progress.elapsed());
            // Half of what is left: a stream that hangs must leave time for another.
            match self.send(left / 2).await.and_then(|verdict| self.read(verdict)) {
                Ok(()) => {
                    (wait, progress) = (Duration::from_millis(100), Instant::now());
                    println!("settled {}", self.stored + self.duplicate + self.rejected);
                }
                Err(status) => {
                    let told = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
                    let again = match status.code() {
                        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::DeadlineExceeded => true,
                        Code::Unknown | Code::Internal => true,
                        _ => told.is_some(),
                    };
                    // Full jitter, so that clients do not come back all at once.
                    let pause = told.unwrap_or_default() + wait.mul_f64(random_range(0.0..1.0));
                    if !again || pause > left {
                        return Err(status);
                    }
                    sleep(pause).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, limit: Duration) -> Result<PublishInteractionStreamResponse, Status> {
        let messages: Vec<_> = self.segment.iter().cloned().map(Some).collect();
        let messages = messages.into_iter().map(|request| PublishInteractionStreamRequest { request });
        let call = self.client.publish_interaction_stream(tokio_stream::iter(messages));
        let answer = timeout(limit, call).await.map_err(|_| Status::deadline_exceeded("no verdict came"))?;
        answer.map(|response| response.into_inner())
    }

    /// Takes a verdict; only what it leaves no doubt of is settled.
    fn read(&mut self, verdict: PublishInteractionStreamResponse) -> Result<(), Status> {
        let counts = verdict.requests.unwrap_or_default();
        let handled = (counts.stored + counts.duplicate + counts.rejected) as usize;
        let listed: HashMap<_, _> = verdict.rejections.iter().map(|one| (one.index as usize, one)).collect();
        if listed.len() != counts.rejected as usize || handled > self.segment.len() {
            return Err(Status::internal("the server's verdict contradicts itself"));
        }
        (self.stored, self.duplicate) = (self.stored + counts.stored, self.duplicate + counts.duplicate);
        let before = self.segment.len();
        let mut index = 0;
        self.segment.retain(|request| {
            let (place, rejection) = (index, listed.get(&index));
            index += 1;
            match rejection {
                Some(one) if ["TOO_BUSY", "DRAINING", "DISK_FULL", "INTERNAL"].contains(&one.reason.as_str()) => true,
                Some(one) => {
                    self.rejected += 1;
                    println!("rejected {}: {}: {}", request.request_id, one.reason, one.message);
                    false
                }
                None => place >= handled,
            }
        });
        if self.segment.len() == before {
            return Err(Status::unavailable("the stream ended before anything was settled"));
        }
        Ok(())
    }
}
