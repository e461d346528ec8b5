//! The commands `user`, `vhost` and `permission`: the request each sends, and how its response is
//! printed.

use crate::arguments::{PermissionCommand, UserCommand, VhostCommand};
use crate::config::Config;
use crate::control::{Request, Response, call};
use crate::failure::Failure;
use crate::{output, password};

/// `wilco user ...`
pub(crate) fn user(config: &Config, command: &UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name, password, tags } => {
            let password = password::read(password.as_deref(), name)?;
            let name = name.clone();
            call(config, Request::UserAdd { name: name.clone(), password, tags: tags.clone() })?;
            output::line(&format!(
                "user {name} added; `wilco permission set` lets it into a virtual host"
            ))
        }
        UserCommand::Delete { name } => {
            call(config, Request::UserDelete { name: name.clone() })?;
            output::line(&format!("user {name} deleted"))
        }
        UserCommand::Passwd { name, password } => {
            let password = password::read(password.as_deref(), name)?;
            call(config, Request::UserPassword { name: name.clone(), password })?;
            output::line(&format!("password of user {name} changed"))
        }
        UserCommand::List(format) => list(config, Request::UserList, format.json),
    }
}

/// `wilco vhost ...`
pub(crate) fn vhost(config: &Config, command: &VhostCommand) -> Result<(), Failure> {
    match command {
        VhostCommand::Add { name } => {
            call(config, Request::VhostAdd { name: name.clone() })?;
            output::line(&format!("virtual host {name} added"))
        }
        VhostCommand::Delete { name } => {
            call(config, Request::VhostDelete { name: name.clone() })?;
            output::line(&format!("virtual host {name} deleted"))
        }
        VhostCommand::List(format) => list(config, Request::VhostList, format.json),
    }
}

/// `wilco permission ...`
pub(crate) fn permission(config: &Config, command: &PermissionCommand) -> Result<(), Failure> {
    match command.clone() {
        PermissionCommand::Set { vhost, user, configure, write, read } => {
            let done = format!("permissions of user {user} in virtual host {vhost} set");
            call(config, Request::PermissionSet { vhost, user, configure, write, read })?;
            output::line(&done)
        }
        PermissionCommand::Clear { vhost, user } => {
            let done = format!("permissions of user {user} in virtual host {vhost} cleared");
            call(config, Request::PermissionClear { vhost, user })?;
            output::line(&done)
        }
        PermissionCommand::List(format) => list(config, Request::PermissionList, format.json),
    }
}

fn list(config: &Config, request: Request, as_json: bool) -> Result<(), Failure> {
    match call(config, request)? {
        Response::Users(users) if as_json => output::json(&users),
        Response::Vhosts(vhosts) if as_json => output::json(&vhosts),
        Response::Permissions(permissions) if as_json => output::json(&permissions),
        Response::Users(users) => {
            let row =
                |user: &crate::control::UserEntry| vec![user.name.clone(), user.tags.join(", ")];
            output::table(&["USER", "TAGS"], &users.iter().map(row).collect::<Vec<_>>())
        }
        Response::Vhosts(vhosts) => {
            let rows: Vec<_> = vhosts.into_iter().map(|vhost| vec![vhost]).collect();
            output::table(&["VHOST"], &rows)
        }
        Response::Permissions(permissions) => {
            let rows: Vec<_> = permissions
                .into_iter()
                .map(|entry| {
                    vec![entry.vhost, entry.user, entry.configure, entry.write, entry.read]
                })
                .collect();
            output::table(&["VHOST", "USER", "CONFIGURE", "WRITE", "READ"], &rows)
        }
        Response::Done | Response::Error(_) => {
            Err(Failure::Runtime("the server answered another question".to_owned()))
        }
    }
}
