//! The section about a server in trouble.

use std::io::{BufRead, stdin};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reflexio::v1::{InteractionData, PublishInteractionsRequest, SearchInteractionsRequest};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Status;

use crate::client::{Client, Failed, as_json, failure, failure_of, say};
use crate::scenario::Account;
use crate::streams::OpenStream;

pub async fn run(address: &str, account: &Account, given: &Value) -> Result<Value, Failed> {
    let mut client = Client::connect(address).await?;
    client.log_in(&account.email, &account.password).await?;
    let held = OpenStream::new(&client, vec![say("holder", "held")], Duration::from_secs(60)).await?;
    client.wait_for("holder", 1).await?;
    let no_free_stream = failure(client.stream([]).await)?;

    cause("block_writes")?;
    let count = given["publishes"].as_u64().ok_or("no number of publishes")? as usize;
    let refused = publish_at_once(&client, count).await?;
    let queue_full = failure_of(refused.first().ok_or("nothing was refused")?);
    let expected = count - refused.len();
    let all_answered = client.wait_for("busy", expected).await? == expected;

    cause("fill_disk")?;
    let image = BASE64_STANDARD.decode(given["image"].as_str().ok_or("no image")?)?;
    let large = PublishInteractionsRequest {
        user_id: "u".to_owned(),
        interactions: vec![InteractionData { image, ..Default::default() }],
        ..Default::default()
    };
    let disk_full = failure(client.publish(large).await)?;
    cause("free_disk")?;
    let query = SearchInteractionsRequest { query: "x".to_owned(), ..Default::default() };
    let unforeseen = failure(client.interactions.search_interactions(query).await)?;
    cause("close_writer")?;
    let draining = failure(client.publish(say("late", "late")).await)?;
    cause("stop")?;
    let verdict = held.verdict.await??.into_inner();
    drop(held.close);
    let stopped = failure(client.publish(say("late", "late")).await)?;
    Ok(json!({
        "no_free_stream": no_free_stream,
        "queue_full": queue_full,
        "all_answered": all_answered,
        "disk_full": disk_full,
        "unforeseen": unforeseen,
        "draining": draining,
        "verdict": as_json(&verdict)?,
        "stopped": stopped["code"],
    }))
}

/// Publishes so many requests concurrently and returns the errors.
async fn publish_at_once(client: &Client, count: usize) -> Result<Vec<Status>, Failed> {
    let mut calls = JoinSet::new();
    for i in 0..count {
        let mut client = client.clone();
        calls.spawn(async move { client.publish(say("busy", &format!("busy_{i}"))).await });
    }
    let mut refused = Vec::new();
    while let Some(result) = calls.join_next().await {
        refused.extend(result?.err());
    }
    Ok(refused)
}

/// Asks the test for some trouble, and waits until it is there.
fn cause(trouble: &str) -> Result<(), Failed> {
    println!("{trouble}");
    stdin().lock().read_line(&mut String::new())?;
    Ok(())
}
