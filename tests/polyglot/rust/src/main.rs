//! Carries out the conformance scenario and prints a report that must equal every other language's.
//!
//! ```text
//! conformance scenario ADDRESS TROUBLED_ADDRESS SCENARIO   with REFLEXIO_EMAIL and REFLEXIO_PASSWORD set
//! conformance stream ADDRESS COUNT PREFIX                  how long a stream of COUNT requests takes
//! ```

mod client;
mod erasing;
mod errors;
mod scenario;
mod streams;
mod trouble;

use std::env;
use std::time::Instant;

use client::{Client, Failed, say};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let report = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["scenario", address, troubled_address, path] => scenario::run(address, troubled_address, path).await?,
        ["stream", address, count, prefix] => time_stream(address, count.parse()?, prefix.to_owned()).await?,
        _ => {
            return Err(
                "usage: conformance scenario ADDRESS TROUBLED_ADDRESS SCENARIO | stream ADDRESS COUNT PREFIX".into()
            );
        }
    };
    println!("{report}");
    Ok(())
}

async fn time_stream(address: &str, count: usize, prefix: String) -> Result<Value, Failed> {
    let mut client = Client::connect(address).await?;
    client.log_in(&env::var("REFLEXIO_EMAIL")?, &env::var("REFLEXIO_PASSWORD")?).await?;
    let started = Instant::now();
    let requests = (0..count).map(move |i| say("streamer", &format!("{prefix}_{i}")));
    let verdict = client.stream(requests).await?;
    Ok(json!({
        "stored": verdict.requests.unwrap_or_default().stored,
        "seconds": started.elapsed().as_secs_f64(),
    }))
}
