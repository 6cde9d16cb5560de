//! `--image-config`: what an image says about running it, as if the user had said it, where the user says nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::cli::Args;
use crate::environment::{Change, assignment};
use crate::error::Error;
use crate::identity;
use crate::image::Config;

/// Puts the configuration beside `--root` into the arguments.
///
/// # Errors
/// No root; a tree that is from no image; a configuration that is damaged.
#[inline(never)]
pub fn applied(args: &Args) -> Result<Box<Args>, Error> {
    let fail = |what: String| Error::new(what).option("--image-config");
    let Some(root) = &args.cage.root else {
        return Err(
            fail("there is no root that an image could belong to".to_owned()).try_this("add --root DIR")
        );
    };
    let tree = Config::beside(root).map_err(|error| error.option("--image-config"))?;
    let Some(config) = tree.config else {
        return Err(fail(format!("{} comes from no image", root.display()))
            .try_this("rcon image unpack keeps an image's configuration beside the tree"));
    };
    let mut args = Box::new(args.clone());
    args.cage.root = Some(tree.root);
    args.command = config.command(&args.command);
    if args.command.is_empty() && args.explain.is_none() {
        return Err(fail("the image names no command".to_owned()).try_this("give one behind --"));
    }
    // As a container: the image's variables and no other, but for what is asked by name.
    let mut environment = vec![Change::Forget];
    for entry in &config.env {
        environment
            .push(text(entry).and_then(assignment).map_err(|why| fail(format!("Env {entry:?}: {why}")))?);
    }
    environment.push(Change::OnTop);
    environment.append(&mut args.environment);
    args.environment = environment;
    if args.privileges.identity.user.is_none() && !config.user.is_empty() {
        let mut parts = config.user.as_bytes().splitn(2, |byte| *byte == b':');
        let who =
            |part: &[u8]| identity::who(part).map_err(|why| fail(format!("User {:?}: {why}", config.user)));
        args.privileges.identity.user = Some(who(parts.next().unwrap_or_default())?);
        let group = parts.next().map(who).transpose()?;
        args.privileges.identity.group = args.privileges.identity.group.take().or(group);
    }
    if args.cage.chdir.is_none() && !config.working_dir.is_empty() {
        let dir = text(&config.working_dir).map_err(|why| fail(format!("WorkingDir: {why}")))?;
        args.cage.chdir = Some(PathBuf::from(dir));
    }
    if args.command.iter().any(|word: &OsString| word.as_bytes().contains(&0)) {
        return Err(fail("the image's command holds a NUL byte".to_owned()));
    }
    Ok(args)
}

fn text(word: &str) -> Result<&OsStr, String> {
    if word.contains('\0') { Err("it holds a NUL byte".to_owned()) } else { Ok(OsStr::new(word)) }
}
