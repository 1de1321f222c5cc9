//! The sections about publish streams.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use reflexio::v1::{Image, InteractionData, PublishInteractionStreamResponse, PublishInteractionsRequest, UserAction};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::client::{Client, Failed, as_json, failure, message, say, streamed};

pub async fn stream(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    #[derive(Deserialize)]
    struct Bad {
        index: usize,
        request: Value,
    }
    #[derive(Deserialize)]
    struct Given {
        count: usize,
        user_id: String,
        bad: Vec<Bad>,
        duplicates: Vec<(usize, usize)>,
    }
    let given = Given::deserialize(given)?;
    let click = InteractionData { user_action: UserAction::Click.into(), ..Default::default() };
    let mut requests: Vec<_> = (0..given.count)
        .map(|i| PublishInteractionsRequest {
            user_id: given.user_id.clone(),
            request_id: format!("stream_{i}"),
            interactions: vec![click.clone()],
            ..Default::default()
        })
        .collect();
    for (index, of) in given.duplicates {
        requests[index] = requests[of].clone();
    }
    for bad in given.bad {
        requests[bad.index] = message(&bad.request)?;
    }
    let first = client.stream(requests.clone()).await?;
    let again = client.stream(requests).await?;
    Ok(json!({"first": as_json(&first)?, "again": as_json(&again)?}))
}

pub async fn malformed(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    let broken = BASE64_STANDARD.decode(given["malformed"].as_str().ok_or("no bytes")?)?;
    let good = message::<PublishInteractionsRequest>(&given["request"])?.encode_to_vec();
    // An Image's first field is bytes where the RPC's message has the request.
    let messages = [broken, good].map(|sha256| Image { sha256, ..Default::default() });
    let mut grpc = Grpc::new(InterceptedService::new(client.channel.clone(), client.with_key.clone()));
    grpc.ready().await?;
    let codec: ProstCodec<Image, PublishInteractionStreamResponse> = ProstCodec::default();
    let path = "/reflexio.v1.InteractionService/PublishInteractionStream".parse()?;
    let answer = grpc.client_streaming(Request::new(tokio_stream::iter(messages)), path, codec).await?;
    as_json(&answer.into_inner())
}

/// A stream that has sent these requests and stays open until `close` is dropped.
pub struct OpenStream {
    pub verdict: JoinHandle<Result<Response<PublishInteractionStreamResponse>, Status>>,
    pub close: mpsc::Sender<PublishInteractionsRequest>,
}

impl OpenStream {
    pub async fn new(
        client: &Client,
        requests: Vec<PublishInteractionsRequest>,
        timeout: Duration,
    ) -> Result<Self, Failed> {
        let (close, receiver) = mpsc::channel(requests.len());
        for request in requests {
            close.send(request).await?;
        }
        let mut call = Request::new(ReceiverStream::new(receiver).map(streamed));
        call.set_timeout(timeout);
        let mut interactions = client.interactions.clone();
        let verdict = tokio::spawn(async move { interactions.publish_interaction_stream(call).await });
        Ok(Self { verdict, close })
    }
}

#[derive(Deserialize)]
struct Held {
    #[serde(default)]
    seconds: f64,
    user_id: String,
    request_ids: Vec<String>,
    #[serde(default)]
    rest: Vec<String>,
}

impl Held {
    fn requests(&self) -> Vec<PublishInteractionsRequest> {
        self.request_ids.iter().map(|id| say(&self.user_id, id)).collect()
    }
}

pub async fn deadline(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    let given = Held::deserialize(given)?;
    let stream = OpenStream::new(client, given.requests(), Duration::from_secs_f64(given.seconds)).await?;
    let failed = failure(stream.verdict.await?)?;
    drop(stream.close);
    Ok(json!({
        "code": failed["code"],
        "stored": client.wait_for(&given.user_id, given.request_ids.len()).await?,
    }))
}

pub async fn cancellation(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    let given = Held::deserialize(given)?;
    let stream = OpenStream::new(client, given.requests(), Duration::from_secs(60)).await?;
    client.wait_for(&given.user_id, given.request_ids.len()).await?;
    stream.verdict.abort(); // in Rust a call is cancelled by dropping its future
    let cancelled = stream.verdict.await.is_err_and(|error| error.is_cancelled());
    drop(stream.close);
    let mut requests = given.requests();
    requests.extend(given.rest.iter().map(|id| say(&given.user_id, id)));
    Ok(json!({"cancelled": cancelled, "again": as_json(&client.stream(requests).await?)?}))
}
