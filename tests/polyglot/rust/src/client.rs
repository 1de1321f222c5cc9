//! A connection, messages in their JSON form, and how calls fail.

use std::error::Error;
use std::iter;
use std::sync::LazyLock;
use std::time::Duration;

use prost::Name;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use reflexio::v1::auth_service_client::AuthServiceClient;
use reflexio::v1::interaction_service_client::InteractionServiceClient;
use reflexio::v1::{
    FILE_DESCRIPTOR_SET, GetImageRequest, GetInteractionsRequest, Interaction, InteractionData, LoginRequest,
    LoginResponse, Order, PublishInteractionStreamRequest, PublishInteractionStreamResponse,
    PublishInteractionsRequest, PublishInteractionsResponse,
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, TimeoutExpired};
use tonic_types::StatusExt;

pub type Failed = Box<dyn Error + Send + Sync>;
pub type Keyed = InterceptedService<Channel, WithKey>;

/// Puts the key into the metadata of each call.
#[derive(Clone)]
pub struct WithKey(Option<MetadataValue<Ascii>>);

impl WithKey {
    pub fn new(key: &str) -> Result<Self, Failed> {
        Ok(Self(if key.is_empty() { None } else { Some(format!("Bearer {key}").parse()?) }))
    }
}

impl Interceptor for WithKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection and the key that goes with each call.
#[derive(Clone)]
pub struct Client {
    pub channel: Channel,
    pub with_key: WithKey,
    pub auth: AuthServiceClient<Keyed>,
    pub interactions: InteractionServiceClient<Keyed>,
}

impl Client {
    pub async fn connect(address: &str) -> Result<Self, Failed> {
        Self::new(Endpoint::from_shared(format!("http://{address}"))?.connect().await?, "")
    }

    fn new(channel: Channel, key: &str) -> Result<Self, Failed> {
        let with_key = WithKey::new(key)?;
        Ok(Self {
            auth: AuthServiceClient::with_interceptor(channel.clone(), with_key.clone()),
            interactions: InteractionServiceClient::with_interceptor(channel.clone(), with_key.clone()),
            channel,
            with_key,
        })
    }

    /// The same connection with another key, or without one if it is empty.
    pub fn with_key(&self, key: &str) -> Result<Self, Failed> {
        Self::new(self.channel.clone(), key)
    }

    pub async fn log_in(&mut self, email: &str, password: &str) -> Result<LoginResponse, Failed> {
        let request = LoginRequest { email: email.to_owned(), password: password.to_owned() };
        let login = self.auth.login(request).await?.into_inner();
        *self = self.with_key(&login.api_key)?;
        Ok(login)
    }

    pub async fn publish(
        &mut self,
        request: PublishInteractionsRequest,
    ) -> Result<PublishInteractionsResponse, Status> {
        Ok(self.interactions.publish_interactions(request).await?.into_inner())
    }

    pub async fn stream<I>(&mut self, requests: I) -> Result<PublishInteractionStreamResponse, Status>
    where
        I: IntoIterator<Item = PublishInteractionsRequest>,
        I::IntoIter: Send + 'static,
    {
        let messages = tokio_stream::iter(requests.into_iter().map(streamed));
        Ok(self.interactions.publish_interaction_stream(messages).await?.into_inner())
    }

    /// All pages, with something to do after the first.
    pub async fn pages<F: Future<Output = Result<(), Status>>>(
        &mut self,
        mut request: GetInteractionsRequest,
        after_the_first: F,
    ) -> Result<Vec<Vec<Interaction>>, Status> {
        let mut pages = Vec::new();
        let mut after_the_first = Some(after_the_first);
        loop {
            let page = self.interactions.get_interactions(request.clone()).await?.into_inner();
            pages.push(page.interactions);
            if let Some(work) = after_the_first.take() {
                work.await?;
            }
            if page.next_page_token.is_empty() {
                return Ok(pages);
            }
            request.page_token = page.next_page_token;
        }
    }

    pub async fn listed(&mut self, request: GetInteractionsRequest) -> Result<Vec<Interaction>, Status> {
        let request = GetInteractionsRequest { order: Order::OldestFirst.into(), ..request };
        Ok(self.pages(request, async { Ok(()) }).await?.concat())
    }

    /// How many interactions of the user are stored, once there are so many, or after 10 seconds.
    pub async fn wait_for(&mut self, user_id: &str, count: usize) -> Result<usize, Status> {
        let request = GetInteractionsRequest { user_id: Some(user_id.to_owned()), ..Default::default() };
        let mut found = 0;
        for _ in 0..200 {
            found = self.listed(request.clone()).await?.len();
            if found >= count {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(found)
    }

    /// A picture in its chunks.
    pub async fn image(&mut self, request: GetImageRequest) -> Result<Vec<Vec<u8>>, Status> {
        let mut parts = self.interactions.get_image(request).await?.into_inner();
        let mut chunks = Vec::new();
        while let Some(part) = parts.message().await? {
            chunks.push(part.data);
        }
        Ok(chunks)
    }
}

pub fn streamed(request: PublishInteractionsRequest) -> PublishInteractionStreamRequest {
    PublishInteractionStreamRequest { request: Some(request), ..Default::default() }
}

/// A request with one interaction, which says its request's id.
pub fn say(user_id: &str, request_id: &str) -> PublishInteractionsRequest {
    PublishInteractionsRequest {
        user_id: user_id.to_owned(),
        request_id: request_id.to_owned(),
        interactions: vec![InteractionData { content: request_id.to_owned(), ..Default::default() }],
        ..Default::default()
    }
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::global(); // it knows google.protobuf.*
    pool.decode_file_descriptor_set(FILE_DESCRIPTOR_SET).expect("the package's own descriptors");
    pool
});

/// Reads a message from its JSON form.
pub fn message<M: prost::Message + Name + Default>(given: &Value) -> Result<M, Failed> {
    let descriptor = POOL.get_message_by_name(&M::full_name()).ok_or("the contract has no such message")?;
    Ok(DynamicMessage::deserialize(descriptor, given)?.transcode_to()?)
}

/// A message with all its fields under their names in the contract.
pub fn as_json<M: prost::Message + Name>(message: &M) -> Result<Value, Failed> {
    let descriptor = POOL.get_message_by_name(&M::full_name()).ok_or("the contract has no such message")?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message)?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// How a call failed, its details in their own types.
pub fn failure_of(status: &Status) -> Value {
    let details = status.get_error_details();
    let info = details.error_info();
    let violations: Vec<Value> = details
        .bad_request()
        .map(|bad| bad.field_violations.as_slice())
        .unwrap_or_default()
        .iter()
        .map(|one| json!({"field": one.field, "description": one.description}))
        .collect();
    json!({
        "code": code_name(code_of(status)),
        "message": status.message(),
        "reason": info.map(|info| info.reason.as_str()).unwrap_or_default(),
        "domain": info.map(|info| info.domain.as_str()).unwrap_or_default(),
        "metadata": info.map(|info| info.metadata.clone()).unwrap_or_default(),
        "violations": violations,
        "retry_after_seconds": details.retry_info().and_then(|retry| retry.retry_delay).map(|delay| delay.as_secs_f64()),
    })
}

/// How a call failed that must fail.
pub fn failure<T>(result: Result<T, Status>) -> Result<Value, Failed> {
    match result {
        Ok(_) => Err("the call succeeded".into()),
        Err(status) => Ok(failure_of(&status)),
    }
}

/// The code of a failed call: tonic gives CANCELLED when its own deadline passed before the server's answer.
fn code_of(status: &Status) -> Code {
    let mut causes = iter::successors(status.source(), |&error| error.source());
    if causes.any(|error| error.is::<TimeoutExpired>()) { Code::DeadlineExceeded } else { status.code() }
}

/// A code as the contract writes it: "RESOURCE_EXHAUSTED".
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}
