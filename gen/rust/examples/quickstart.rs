//! What README.md shows, in one program.

use std::env;
use std::error::Error;
use std::time::SystemTime;

use reflexio::v1::auth_service_client::AuthServiceClient;
use reflexio::v1::interaction_service_client::InteractionServiceClient;
use reflexio::v1::{
    DeleteUserRequest, InteractionData, InteractionFilter, LoginRequest, PublishInteractionStreamRequest,
    PublishInteractionsRequest, SearchInteractionsRequest, UserAction, WaitUntil, WhoAmIRequest,
};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (address, email, password) =
        (env::var("REFLEXIO_ADDRESS")?, env::var("REFLEXIO_EMAIL")?, env::var("REFLEXIO_PASSWORD")?);

    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let login = AuthServiceClient::new(channel.clone()).login(LoginRequest { email, password }).await?.into_inner();
    let key: MetadataValue<Ascii> = format!("Bearer {}", login.api_key).parse()?;
    let with_key = move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", key.clone());
        Ok(request)
    };
    let mut auth = AuthServiceClient::with_interceptor(channel.clone(), with_key.clone());
    let me = auth.who_am_i(WhoAmIRequest {}).await?.into_inner();
    println!("logged in as {}", me.account.unwrap_or_default().email);

    let mut client = InteractionServiceClient::with_interceptor(channel, with_key.clone());
    let said = |role: &str, content: &str| InteractionData {
        role: role.into(),
        content: content.into(),
        created_at: Some(SystemTime::now().into()),
        ..Default::default()
    };
    // Ids are yours to make, and are never used for something else.
    let run = format!("{:x}", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos());
    let request = PublishInteractionsRequest {
        user_id: "ada".into(),
        request_id: format!("parcel-4711_{run}"),
        request_group: "parcel-4711".into(),
        source: "support_chat".into(),
        wait_until: WaitUntil::Searchable.into(),
        interactions: vec![said("User", "My parcel never arrived."), said("Agent", "I am sorry!")],
        ..Default::default()
    };
    let published = client.publish_interactions(request.clone()).await?.into_inner();
    println!("published {} interactions", published.interaction_ids.len());
    let again = client.publish_interactions(request).await?.into_inner(); // as after a lost answer: the very same message
    println!("sent again, and stored before: {}", again.replayed);

    let clicks = (0..3).map(move |i| PublishInteractionStreamRequest {
        request: Some(PublishInteractionsRequest {
            user_id: "ada".into(),
            request_id: format!("clicks-{run}_{i}"),
            interactions: vec![InteractionData { user_action: UserAction::Click.into(), ..Default::default() }],
            ..Default::default()
        }),
        ..Default::default()
    });
    let verdict = client.publish_interaction_stream(tokio_stream::iter(clicks)).await?.into_inner();
    let counts = verdict.requests.unwrap_or_default();
    println!("streamed: {} stored, {} duplicate, {} rejected", counts.stored, counts.duplicate, counts.rejected);

    let request = SearchInteractionsRequest {
        user_id: Some("ada".into()), // None: the whole account
        query: "lost delivery".into(),
        top_k: 1,
        filter: Some(InteractionFilter { roles: vec!["User".into()], ..Default::default() }),
        ..Default::default()
    };
    for hit in client.search_interactions(request).await?.into_inner().hits {
        let found = hit.interaction.unwrap_or_default();
        println!("{:.2} {}: {}", hit.score, found.role, found.content);
    }

    let request = DeleteUserRequest { user_id: "ada".into() };
    let erased = client.delete_user(request).await?.into_inner().erased.unwrap_or_default();
    println!("erased: {} requests, {} interactions", erased.requests, erased.interactions);

    if let Err(status) = client.publish_interactions(PublishInteractionsRequest::default()).await {
        println!("refused: {:?} {}", status.code(), status.message());
        let details = status.get_error_details();
        if let Some(info) = details.error_info() {
            println!("reason: {}", info.reason);
        }
        for violation in details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default() {
            println!("field: {}: {}", violation.field, violation.description);
        }
        if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
            println!("try again after {delay:?}");
        }
    }

    let servers: Result<Vec<_>, _> =
        address.split(',').map(|one| Endpoint::from_shared(format!("http://{one}"))).collect();
    let several = Channel::balance_list(servers?.into_iter());
    let mut auth = AuthServiceClient::with_interceptor(several, with_key);
    let me = auth.who_am_i(WhoAmIRequest {}).await?.into_inner();
    println!("one that serves knows {}", me.account.unwrap_or_default().email);
    Ok(())
}
