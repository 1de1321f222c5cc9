//! The sections in their order; what they are given and must report is in scenario.json.

use std::collections::HashSet;
use std::env;

use reflexio::v1::{
    GetImageRequest, GetInteractionsRequest, GetRequestsRequest, Interaction, InteractionData, Order,
    PublishInteractionsRequest, RequestGroup, SearchInteractionsRequest, WhoAmIRequest,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::client::{Client, Failed, message, say};
use crate::{erasing, errors, streams, trouble};

pub struct Account {
    pub email: String,
    pub password: String,
}

pub async fn run(address: &str, troubled_address: &str, path: &str) -> Result<Value, Failed> {
    let sections: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let given = |name: &str| &sections[name]["given"];
    let account = Account { email: env::var("REFLEXIO_EMAIL")?, password: env::var("REFLEXIO_PASSWORD")? };
    let mut client = Client::connect(address).await?;
    let login = client.log_in(&account.email, &account.password).await?;
    let client = &mut client;
    Ok(json!({
        "login": {"key_prefix": &login.api_key[..5], "key_length": login.api_key.len()},
        "who_am_i": who_am_i(client, &account, &login.key_id).await?,
        "images": images(client, given("images")).await?,
        "unicode": unicode(client, given("unicode")).await?,
        "replay": replay(client, given("replay")).await?,
        "stream": streams::stream(client, given("stream")).await?,
        "malformed_in_stream": streams::malformed(client, given("malformed_in_stream")).await?,
        "search": search(client, given("search")).await?,
        "paging": paging(client, given("paging")).await?,
        "threads": threads(client, given("threads")).await?,
        "errors": errors::rows(client, given("errors")).await?,
        "erasing": erasing::erasing(client, given("erasing")).await?,
        "deadline": streams::deadline(client, given("deadline")).await?,
        "cancellation": streams::cancellation(client, given("cancellation")).await?,
        "revoked_key": errors::revoked_key(client, &account).await?,
        "trouble": trouble::run(troubled_address, &account, given("trouble")).await?,
    }))
}

async fn who_am_i(client: &mut Client, account: &Account, key_id: &str) -> Result<Value, Failed> {
    let me = client.auth.who_am_i(WhoAmIRequest {}).await?.into_inner();
    let key = me.api_key.unwrap_or_default();
    Ok(json!({
        "same_email": me.account.unwrap_or_default().email == account.email,
        "same_key": key.key_id == key_id,
        "revoked": key.revoked_at.is_some(),
    }))
}

async fn images(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    let request: PublishInteractionsRequest = message(&given["request"])?;
    let answer = client.publish(request.clone()).await?;
    let wanted =
        GetInteractionsRequest { user_id: Some(request.user_id.clone()), include_images: true, ..Default::default() };
    let mut images = Vec::new();
    for (sent, found) in request.interactions.iter().zip(client.listed(wanted).await?) {
        images.push(image(client, &sent.image, found).await?);
    }
    Ok(json!({
        "published": answer.interaction_ids.len(),
        "replayed": answer.replayed,
        "searchable": answer.searchable,
        "images": images,
    }))
}

async fn image(client: &mut Client, sent: &[u8], found: Interaction) -> Result<Value, Failed> {
    let chunks = client.image(GetImageRequest { interaction_id: found.interaction_id }).await?;
    let image = found.image.unwrap_or_default();
    Ok(json!({
        "content": found.content,
        "media_type": image.media_type,
        "width": image.width,
        "height": image.height,
        "size_bytes": image.size_bytes,
        "data_omitted": image.data_omitted,
        "bytes_in_page": image.data.len(),
        "same_sha256": image.sha256 == Sha256::digest(sent).as_slice(),
        "chunks": chunks.iter().map(Vec::len).collect::<Vec<_>>(),
        "same_bytes": chunks.concat() == sent && (image.data.is_empty() || image.data == sent),
    }))
}

async fn unicode(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    #[derive(Deserialize)]
    struct Given {
        user_id: String,
        request_id: String,
        texts: Vec<String>,
    }
    let given = Given::deserialize(given)?;
    let interactions = given.texts.into_iter().map(|content| InteractionData { content, ..Default::default() });
    let request = PublishInteractionsRequest {
        user_id: given.user_id.clone(),
        request_id: given.request_id,
        interactions: interactions.collect(),
        ..Default::default()
    };
    client.publish(request).await?;
    let wanted = GetInteractionsRequest { user_id: Some(given.user_id), ..Default::default() };
    let stored = client.listed(wanted).await?;
    Ok(json!({
        "user_id": stored[0].user_id,
        "request_id": stored[0].request_id,
        "contents": contents(&stored),
    }))
}

async fn replay(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    let request: PublishInteractionsRequest = message(&given["request"])?;
    let first = client.publish(request.clone()).await?;
    let again = client.publish(request).await?;
    let before = client.publish(message(&given["published_before"])?).await?;
    Ok(json!({
        "first_replayed": first.replayed,
        "again_replayed": again.replayed,
        "same_ids": first.interaction_ids == again.interaction_ids,
        "published_before_replayed": before.replayed,
    }))
}

async fn search(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    #[derive(Deserialize)]
    struct Search {
        name: String,
        request: Value,
    }
    for request in given["requests"].as_array().ok_or("no requests")? {
        client.publish(message(request)?).await?;
    }
    let mut reports = Map::new();
    for search in Vec::<Search>::deserialize(&given["searches"])? {
        let request: SearchInteractionsRequest = message(&search.request)?;
        let found = client.interactions.search_interactions(request).await?.into_inner();
        let scores_fall = found.hits.is_sorted_by(|one, next| one.score >= next.score);
        let hits: Vec<_> = found.hits.into_iter().filter_map(|hit| hit.interaction).collect();
        let report = json!({
            "contents": contents(&hits),
            "unindexed_count": found.unindexed_count,
            "scores_fall": scores_fall,
        });
        reports.insert(search.name, report);
    }
    Ok(Value::Object(reports))
}

async fn paging(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    #[derive(Deserialize)]
    struct Given {
        user_id: String,
        requests: usize,
        interactions: usize,
        page_size: u32,
    }
    let given = Given::deserialize(given)?;
    for i in 0..given.requests {
        let line =
            |j| InteractionData { content: format!("line {}", i * given.interactions + j), ..Default::default() };
        let request = PublishInteractionsRequest {
            user_id: given.user_id.clone(),
            interactions: (0..given.interactions).map(line).collect(),
            ..Default::default()
        };
        client.publish(request).await?;
    }
    let late = "after the first page";
    let wanted = GetInteractionsRequest {
        user_id: Some(given.user_id.clone()),
        page_size: given.page_size,
        ..Default::default()
    };
    let newest_first = client.pages(wanted.clone(), async { Ok(()) }).await?.concat();
    let wanted = GetInteractionsRequest { order: Order::OldestFirst.into(), ..wanted };
    let mut other = client.clone();
    let publish_late = async { other.publish(say(&given.user_id, late)).await.map(|_| ()) };
    let oldest_first = client.pages(wanted, publish_late).await?;
    let everything = client.listed(GetInteractionsRequest { page_size: 1000, ..Default::default() }).await?;
    let page_sizes: Vec<_> = oldest_first.iter().map(Vec::len).collect();
    let lines = oldest_first.concat();
    Ok(json!({
        "page_sizes": page_sizes,
        "contents": contents(&lines),
        "newest_first": contents(&newest_first),
        "late_in_pages": contents(&lines).contains(&late),
        "everything": everything.len(),
        "distinct": everything.iter().map(|item| &item.interaction_id).collect::<HashSet<_>>().len(),
    }))
}

async fn threads(client: &mut Client, given: &Value) -> Result<Value, Failed> {
    #[derive(Deserialize)]
    struct Read {
        name: String,
        request: Value,
    }
    for request in given["requests"].as_array().ok_or("no requests")? {
        client.publish(message(request)?).await?;
    }
    let mut reports = Map::new();
    for read in Vec::<Read>::deserialize(&given["reads"])? {
        let mut request: GetRequestsRequest = message(&read.request)?;
        let mut pages = Vec::new();
        loop {
            let page = client.interactions.get_requests(request.clone()).await?.into_inner();
            pages.push(page.request_groups.iter().map(thread).collect());
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        reports.insert(read.name, Value::Array(pages));
    }
    Ok(Value::Object(reports))
}

/// A thread, with what was said in each request.
fn thread(group: &RequestGroup) -> Value {
    let requests: Vec<_> = group.requests.iter().map(|one| contents(&one.interactions)).collect();
    json!({"request_group": group.request_group, "requests": requests})
}

pub fn contents(items: &[Interaction]) -> Vec<&str> {
    items.iter().map(|item| item.content.as_str()).collect()
}
