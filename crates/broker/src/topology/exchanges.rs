//! Declaring, finding and deleting exchanges.

use std::sync::Arc;

use amqp::FieldValue;

use super::definitions::{Declared, ExchangeDeclaration, Removal};
use super::queues::invalid_type;
use super::rules::{check_name, check_not_of_broker, default_exchange_refused};
use super::state::{ExchangeEntry, Topology};
use crate::BrokerError;
use crate::arguments::{compare, compare_field};
use crate::exchange::{ALTERNATE_EXCHANGE, ExchangeDefinition};

impl Topology {
    /// `exchange.declare`: creates the exchange, or finds it with the same properties.
    ///
    /// # Errors
    ///
    /// `ACCESS_REFUSED` for the default exchange and for a new name that is reserved,
    /// `PRECONDITION_FAILED` if it exists with another type, property or alternate exchange, or if
    /// `alternate-exchange` is not text.
    pub fn declare_exchange(
        &mut self,
        declaration: ExchangeDeclaration<'_>,
    ) -> Result<Declared<&ExchangeDefinition>, BrokerError> {
        let name = declaration.name;
        if name.is_empty() {
            return Err(default_exchange_refused());
        }
        let (place, created) = match self.exchanges.find(name) {
            Some(place) => (place, false),
            None => (self.create_exchange(&declaration)?, true),
        };
        let current = &self.exchanges.get(place).expect("found or added just now").definition;
        if !created {
            check_equivalent(current, &declaration, &self.exchange_subject(name))?;
        }
        Ok(Declared::new(current, created))
    }

    /// `exchange.declare` passive.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`, and `ACCESS_REFUSED` for the default exchange.
    pub fn declare_exchange_passive(&self, name: &str) -> Result<&ExchangeDefinition, BrokerError> {
        if name.is_empty() {
            return Err(default_exchange_refused());
        }
        self.exchange(name)
    }

    /// The exchange of that name, the default exchange included.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`.
    pub fn exchange(&self, name: &str) -> Result<&ExchangeDefinition, BrokerError> {
        self.exchange_named(name).ok_or_else(|| self.no_exchange(name))
    }

    /// The exchange, if clients may publish to it.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND`, and `ACCESS_REFUSED` for an internal exchange.
    pub fn exchange_for_publish(&self, name: &str) -> Result<&ExchangeDefinition, BrokerError> {
        let definition = self.exchange(name)?;
        if definition.internal {
            return Err(BrokerError::access_refused(format!(
                "cannot publish to internal {}",
                self.exchange_subject(name)
            )));
        }
        Ok(definition)
    }

    /// The exchange of that name.
    pub fn exchange_named(&self, name: &str) -> Option<&ExchangeDefinition> {
        Some(&self.exchanges.get(self.exchanges.find(name)?)?.definition)
    }

    /// Whether the exchange exists and only other exchanges may publish to it.
    pub fn is_internal(&self, name: &str) -> bool {
        self.exchange_named(name).is_some_and(|definition| definition.internal)
    }

    /// `exchange.delete`: deletes the exchange with all bindings from and to it, and the
    /// auto-delete exchanges that thereby lose their last binding. Deleting what does not exist
    /// does nothing.
    ///
    /// # Errors
    ///
    /// `ACCESS_REFUSED` for predeclared exchanges, `PRECONDITION_FAILED` if it has bindings and
    /// `if_unused` is set.
    pub fn delete_exchange(&mut self, name: &str, if_unused: bool) -> Result<Removal, BrokerError> {
        if name.is_empty() {
            return Err(default_exchange_refused());
        }
        let subject = self.exchange_subject(name);
        if name.starts_with("amq.") {
            return Err(BrokerError::access_refused(format!(
                "deletion of system {subject} not allowed"
            )));
        }
        let Some(place) = self.exchanges.find(name) else { return Ok(Removal::default()) };
        let in_use = self.exchanges.get(place).is_some_and(|entry| !entry.outgoing.is_empty());
        if if_unused && in_use {
            return Err(BrokerError::precondition_failed(format!("{subject} in use")));
        }
        Ok(self.remove_exchange(place))
    }

    /// Restores an exchange from storage.
    ///
    /// # Errors
    ///
    /// `PRECONDITION_FAILED` if the name is taken.
    pub fn restore_exchange(&mut self, definition: ExchangeDefinition) -> Result<(), BrokerError> {
        if self.exchanges.find(&definition.name).is_some() {
            let subject = self.exchange_subject(&definition.name);
            return Err(BrokerError::precondition_failed(format!("{subject} is there already")));
        }
        self.add_exchange(definition);
        Ok(())
    }

    fn create_exchange(
        &mut self,
        declaration: &ExchangeDeclaration<'_>,
    ) -> Result<u32, BrokerError> {
        let &ExchangeDeclaration { name, kind, durable, auto_delete, internal, .. } = declaration;
        check_name("exchange", name)?;
        let arguments = declaration.arguments.clone();
        if let Some(wrong) = arguments.get(ALTERNATE_EXCHANGE)
            && !matches!(wrong, FieldValue::LongString(_))
        {
            return Err(invalid_type(wrong, ALTERNATE_EXCHANGE, &self.exchange_subject(name)));
        }
        if let Some(alternate) = arguments.get(ALTERNATE_EXCHANGE).and_then(FieldValue::as_str) {
            check_not_of_broker(alternate)?;
        }
        let definition = ExchangeDefinition::new(name, kind, arguments);
        Ok(self.add_exchange(ExchangeDefinition { durable, auto_delete, internal, ..definition }))
    }

    fn add_exchange(&mut self, definition: ExchangeDefinition) -> u32 {
        self.changed();
        self.exchanges.insert(Arc::clone(&definition.name), ExchangeEntry::new(definition))
    }
}

fn check_equivalent(
    current: &ExchangeDefinition,
    declaration: &ExchangeDeclaration<'_>,
    subject: &str,
) -> Result<(), BrokerError> {
    compare_field("type", current.kind, declaration.kind, subject)?;
    compare_field("durable", current.durable, declaration.durable, subject)?;
    compare_field("auto_delete", current.auto_delete, declaration.auto_delete, subject)?;
    compare_field("internal", current.internal, declaration.internal, subject)?;
    compare(
        ALTERNATE_EXCHANGE,
        current.arguments.get(ALTERNATE_EXCHANGE),
        declaration.arguments.get(ALTERNATE_EXCHANGE),
        subject,
    )
}
