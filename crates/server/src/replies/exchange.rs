//! The methods of class exchange.

use amqp::{
    ExchangeBind, ExchangeBindOk, ExchangeDeclare, ExchangeDeclareOk, ExchangeDelete,
    ExchangeDeleteOk, ExchangeUnbind, ExchangeUnbindOk, Method,
};
use node::{DeclareExchange, Destination, Session};

use super::{Done, without_line_breaks};

pub(super) fn declare(session: &mut Session, declare: &ExchangeDeclare<'_>) -> Done {
    let options = DeclareExchange {
        passive: declare.passive,
        durable: declare.durable,
        auto_delete: declare.auto_delete,
        internal: declare.internal,
        arguments: declare.arguments.clone(),
    };
    session.declare_exchange(&without_line_breaks(declare.exchange), declare.kind, &options)?;
    Ok(Method::ExchangeDeclareOk(ExchangeDeclareOk {}))
}

pub(super) fn delete(session: &mut Session, delete: &ExchangeDelete<'_>) -> Done {
    session.delete_exchange(&without_line_breaks(delete.exchange), delete.if_unused)?;
    Ok(Method::ExchangeDeleteOk(ExchangeDeleteOk {}))
}

pub(super) fn bind(session: &mut Session, bind: &ExchangeBind<'_>) -> Done {
    let to = Destination::exchange(&without_line_breaks(bind.destination));
    session.bind(&without_line_breaks(bind.source), &to, bind.routing_key, &bind.arguments)?;
    Ok(Method::ExchangeBindOk(ExchangeBindOk {}))
}

pub(super) fn unbind(session: &mut Session, unbind: &ExchangeUnbind<'_>) -> Done {
    let to = Destination::exchange(&without_line_breaks(unbind.destination));
    session.unbind(
        &without_line_breaks(unbind.source),
        &to,
        unbind.routing_key,
        &unbind.arguments,
    )?;
    Ok(Method::ExchangeUnbindOk(ExchangeUnbindOk {}))
}
