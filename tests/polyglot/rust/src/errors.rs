//! The sections about what is refused.

use reflexio::v1::{Image, ListApiKeysRequest, RevokeApiKeyRequest, RevokeApiKeyResponse, WhoAmIRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tonic::client::Grpc;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::client::{Client, Failed, failure, message};
use crate::scenario::Account;

#[derive(Deserialize)]
struct Row {
    name: String,
    rpc: String,
    key: Option<String>,
    sent_as: Option<String>,
    request: Value,
}

pub async fn rows(client: &Client, given: &Value) -> Result<Value, Failed> {
    let mut reports = Map::new();
    for row in Vec::<Row>::deserialize(given)? {
        let result = refused(client, &row).await?;
        reports.insert(row.name, failure(result)?);
    }
    Ok(Value::Object(reports))
}

/// Makes a call that must fail.
async fn refused(client: &Client, row: &Row) -> Result<Result<(), Status>, Failed> {
    let mut client = match &row.key {
        Some(key) => client.with_key(key)?,
        None => client.clone(),
    };
    let given = &row.request;
    if row.sent_as.is_some() {
        return Ok(send_image(&client, message(given)?).await);
    }
    Ok(match row.rpc.as_str() {
        "Login" => client.auth.login(message::<reflexio::v1::LoginRequest>(given)?).await.map(drop),
        "WhoAmI" => client.auth.who_am_i(WhoAmIRequest {}).await.map(drop),
        "ListApiKeys" => client.auth.list_api_keys(message::<ListApiKeysRequest>(given)?).await.map(drop),
        "RevokeApiKey" => client.auth.revoke_api_key(message::<RevokeApiKeyRequest>(given)?).await.map(drop),
        "PublishInteractions" => client.publish(message(given)?).await.map(drop),
        "SearchInteractions" => {
            let request: reflexio::v1::SearchInteractionsRequest = message(given)?;
            client.interactions.search_interactions(request).await.map(drop)
        }
        "GetInteractions" => {
            let request: reflexio::v1::GetInteractionsRequest = message(given)?;
            client.interactions.get_interactions(request).await.map(drop)
        }
        "GetRequests" => {
            let request: reflexio::v1::GetRequestsRequest = message(given)?;
            client.interactions.get_requests(request).await.map(drop)
        }
        "DeleteInteraction" => {
            let request: reflexio::v1::DeleteInteractionRequest = message(given)?;
            client.interactions.delete_interaction(request).await.map(drop)
        }
        "DeleteRequest" => {
            let request: reflexio::v1::DeleteRequestRequest = message(given)?;
            client.interactions.delete_request(request).await.map(drop)
        }
        "DeleteRequestGroup" => {
            let request: reflexio::v1::DeleteRequestGroupRequest = message(given)?;
            client.interactions.delete_request_group(request).await.map(drop)
        }
        "DeleteUser" => {
            let request: reflexio::v1::DeleteUserRequest = message(given)?;
            client.interactions.delete_user(request).await.map(drop)
        }
        "GetImage" => client.image(message(given)?).await.map(drop),
        other => return Err(format!("no RPC {other}").into()),
    })
}

/// Sends bytes where the RPC has text, which is how text that is not UTF-8 gets onto the wire.
async fn send_image(client: &Client, image: Image) -> Result<(), Status> {
    let mut grpc = Grpc::new(InterceptedService::new(client.channel.clone(), client.with_key.clone()));
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec: ProstCodec<Image, RevokeApiKeyResponse> = ProstCodec::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/reflexio.v1.AuthService/RevokeApiKey");
    grpc.unary(Request::new(image), path, codec).await.map(drop)
}

pub async fn revoked_key(client: &mut Client, account: &Account) -> Result<Value, Failed> {
    let mut other = client.with_key("")?;
    let key_id = other.log_in(&account.email, &account.password).await?.key_id;
    let before = other.auth.who_am_i(WhoAmIRequest {}).await?.into_inner().api_key.unwrap_or_default();
    let revoked = revoke(client, &key_id).await?;
    let after = failure(other.auth.who_am_i(WhoAmIRequest {}).await)?;
    let revoked_again = revoke(client, &key_id).await?;
    let keys = client.auth.list_api_keys(ListApiKeysRequest::default()).await?.into_inner().api_keys;
    Ok(json!({
        "before": before.key_id == key_id,
        "revoked": revoked,
        "after": after,
        "revoked_again": revoked_again,
        "listed_as_revoked": keys.iter().filter(|key| key.revoked_at.is_some()).count(),
    }))
}

async fn revoke(client: &mut Client, key_id: &str) -> Result<bool, Status> {
    let request = RevokeApiKeyRequest { key_id: key_id.to_owned() };
    let answer = client.auth.revoke_api_key(request).await?.into_inner();
    Ok(answer.api_key.is_some_and(|key| key.revoked_at.is_some()))
}
