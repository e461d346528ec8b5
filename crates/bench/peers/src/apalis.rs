//! What apalis does: tasks are put in without confirms, worked on and acked. Nobody is told; that the handler has
//! been called counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_amqp::{AmqpBackend, Config};
use tokio::sync::Semaphore;

use crate::{CONCURRENCY, Order, QUEUE, Result, WINDOW};

pub(crate) async fn run(url: String, count: u64) -> Result<(Instant, Duration)> {
    let config = Config::default().queue(QUEUE).prefetch_count(CONCURRENCY);
    let mut backend = AmqpBackend::<Order>::new_from_addr(&url)?.with_config(config);
    let places = Arc::new(Semaphore::new(WINDOW));
    let began = crate::now();
    for number in 0..count {
        places.acquire().await?.forget();
        backend.push(Order::new(number)).await.map_err(|error| format!("{error:?}"))?;
        if number == 0 {
            // A worker of a backend that has no channel yet panics (1.0.0).
            let worker = WorkerBuilder::new("worker")
                .backend(backend.clone())
                .data(Arc::clone(&places))
                .concurrency(usize::from(CONCURRENCY))
                .build(handle);
            tokio::spawn(worker.run());
        }
    }
    let _all = places.acquire_many(WINDOW as u32).await?;
    Ok(began)
}

async fn handle(_: Order, places: Data<Arc<Semaphore>>) -> Result<(), BoxDynError> {
    places.add_permits(1);
    Ok(())
}
