//! Executes a request on an open node.

use node::Node;
use node::definitions::Permissions;

use super::{PermissionEntry, Request, Response, UserEntry};

/// Blocks until the change is durable.
pub(crate) fn execute(node: &Node, request: Request) -> Response {
    let result = match request {
        Request::UserAdd { name, password, tags } => node.add_user(&name, &password, &tags),
        Request::UserDelete { name } => node.delete_user(&name),
        Request::UserPassword { name, password } => node.change_password(&name, &password),
        Request::VhostAdd { name } => node.add_vhost(&name),
        Request::VhostDelete { name } => node.delete_vhost(&name),
        Request::PermissionSet { vhost, user, configure, write, read } => {
            node.set_permissions(&vhost, &user, Permissions { configure, write, read })
        }
        Request::PermissionClear { vhost, user } => node.clear_permissions(&vhost, &user),
        Request::UserList => return users(node),
        Request::VhostList => return Response::Vhosts(node.vhosts()),
        Request::PermissionList => return permissions(node),
    };
    match result {
        Ok(()) => Response::Done,
        Err(error) => Response::Error(error.to_string()),
    }
}

fn users(node: &Node) -> Response {
    let users = node.users().into_iter();
    Response::Users(users.map(|user| UserEntry { name: user.name, tags: user.tags }).collect())
}

fn permissions(node: &Node) -> Response {
    let entries = node.permissions().into_iter().map(|(vhost, user, permissions)| {
        let Permissions { configure, write, read } = permissions;
        PermissionEntry { vhost, user, configure, write, read }
    });
    Response::Permissions(entries.collect())
}
