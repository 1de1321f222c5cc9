//! The section about erasing.

use reflexio::v1::{
    DeleteInteractionRequest, DeleteRequestGroupRequest, DeleteRequestRequest, DeleteUserRequest,
    GetInteractionsRequest, PublishInteractionsRequest,
};
use serde_json::{Value, json};

use crate::client::{Client, Failed, as_json, failure, message};
use crate::scenario::contents;

pub async fn erasing(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    let mut requests: Vec<PublishInteractionsRequest> = Vec::new();
    let mut ids = Vec::new();
    for request in given["requests"].as_array().ok_or("no requests")? {
        requests.push(message(request)?);
        ids.push(client.publish(message(request)?).await?.interaction_ids);
    }
    let (partly, whole) = (&requests[0], &requests[1]);
    let user_id = partly.user_id.clone();
    let interaction = DeleteInteractionRequest { user_id: Some(user_id.clone()), interaction_id: ids[0][0].clone() };
    let interaction = client.interactions.delete_interaction(interaction).await?.into_inner();
    let again = client.publish(partly.clone()).await?;
    let request = DeleteRequestRequest { request_id: whole.request_id.clone(), ..Default::default() };
    let request = client.interactions.delete_request(request).await?.into_inner();
    let erased_request = failure(client.publish(whole.clone()).await)?;
    let in_stream = client.stream(vec![whole.clone(), partly.clone()]).await?;
    let group =
        DeleteRequestGroupRequest { user_id: user_id.clone(), request_group: requests[2].request_group.clone() };
    let group = client.interactions.delete_request_group(group).await?.into_inner();
    let wanted = GetInteractionsRequest { user_id: Some(user_id.clone()), ..Default::default() };
    let left = client.listed(wanted).await?;
    let user = DeleteUserRequest { user_id };
    Ok(json!({
        "interaction": as_json(&interaction)?,
        "replayed": again.replayed,
        "same_ids": again.interaction_ids == ids[0],
        "request": as_json(&request)?,
        "erased_request": erased_request,
        "in_stream": as_json(&in_stream)?,
        "request_group": as_json(&group)?,
        "left": contents(&left),
        "user": as_json(&client.interactions.delete_user(user.clone()).await?.into_inner())?,
        "again": failure(client.interactions.delete_user(user).await)?,
    }))
}
