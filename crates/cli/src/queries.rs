//! Questions of AMQP clients, passed on to what answers them over HTTP.

use std::sync::Arc;

use management::ports::User;
use management::{Queries, Query};
use node::{Node, Question};
use tokio::runtime::Handle;

/// Has questions of the node's clients answered, by tasks of this runtime.
pub(crate) fn answer(node: &Node, queries: Queries) {
    node.answer_queries(Arc::new(Answering { queries, runtime: Handle::current() }));
}

struct Answering {
    queries: Queries,
    runtime: Handle,
}

impl node::Queries for Answering {
    fn ask(&self, mut question: Question) {
        let queries = self.queries.clone();
        self.runtime.spawn(async move {
            let query = Query {
                user: User {
                    name: question.who.user().to_owned(),
                    incarnation: question.who.incarnation(),
                },
                vhost: question.vhost.to_string(),
                subject: std::mem::take(&mut question.subject),
                body: std::mem::take(&mut question.body),
            };
            let answer = queries.answer(&query).await;
            question.answer(answer.status, &answer.content_type, &answer.body);
        });
    }
}
