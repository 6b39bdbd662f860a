//! Whom a track script runs as.

use std::io;

use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

use super::spawner::StartError;

/// The users a script runs as when the configuration names none: the first that exists.
const DEFAULT_USERS: [&str; 2] = ["lb_script", "nobody"];

/// Whom a script runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The daemon's own user: it is not root and cannot change, or need not.
    Own,
    /// Another user, with all the groups it is in.
    Other {
        /// For messages.
        name: String,
        uid: Uid,
        gid: Gid,
        groups: Vec<Gid>,
    },
}

impl Identity {
    /// Looks up `user`, or the default. May block on the system's user database.
    pub(super) fn find(user: Option<&str>) -> Result<Self, StartError> {
        let own = geteuid();
        match user {
            None if !own.is_root() => Ok(Self::Own),
            None => {
                for name in DEFAULT_USERS {
                    if let Some(user) = look_up(name)? {
                        return Self::of(user);
                    }
                }
                Err(StartError::NoDefaultUser)
            }
            Some(name) => {
                let user = look_up(name)?.ok_or_else(|| StartError::NoUser(name.to_owned()))?;
                match own.is_root() {
                    true => Self::of(user),
                    false if user.uid == own => Ok(Self::Own),
                    false => Err(StartError::NotRoot(name.to_owned())),
                }
            }
        }
    }

    /// The name for messages.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own => "lb runs as",
            Self::Other { name, .. } => name,
        }
    }

    fn of(user: User) -> Result<Self, StartError> {
        let unusable = |errno: nix::Error| StartError::UserDatabase(user.name.clone(), errno.into());
        let name =
            std::ffi::CString::new(user.name.as_str()).map_err(|_| StartError::NoUser(user.name.clone()))?;
        let groups = getgrouplist(&name, user.gid).map_err(unusable)?;
        Ok(Self::Other { name: user.name, uid: user.uid, gid: user.gid, groups })
    }
}

fn look_up(name: &str) -> Result<Option<User>, StartError> {
    User::from_name(name).map_err(|errno| StartError::UserDatabase(name.to_owned(), io::Error::from(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_is_named() {
        let error = Identity::find(Some("no-such-user-here")).unwrap_err();
        assert_eq!(error.to_string(), "user no-such-user-here does not exist; create it or correct `user`");
    }

    #[test]
    fn the_default_is_unprivileged_when_lb_is_root() {
        let identity = Identity::find(None).unwrap();
        if geteuid().is_root() {
            assert!(matches!(identity, Identity::Other { uid, .. } if !uid.is_root()), "{identity:?}");
        } else {
            assert_eq!(identity, Identity::Own);
        }
    }
}
