//! The words of `run`, `prepare` and `fetch`: images, each with flags of its own and with arguments.
//!
//! rkt 1.30's grammar: flags, an image, more flags (those of an app belong to the image before them, those of the pod may
//! stand anywhere), `--` and the arguments of that image up to `---` or the end, the next image, …. Empty words are
//! skipped, and so is a `---` that ends nothing.

use super::Words;
use super::flag::{self, Flag, FlagError, Given, Step};

/// An image and what was said about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AppWords {
    /// The image, as written.
    pub(crate) image: String,
    /// The flags after it.
    pub(crate) flags: Given,
    /// The words between `--` and `---`. `None`: there was no `--`.
    pub(crate) args: Option<Vec<String>>,
}

/// The words are not images with flags and arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppsError {
    #[error("an image is required before any app arguments")]
    NoImage,
    #[error("only one set of app arguments allowed per image")]
    Twice,
    #[error("--{0} must follow an image")]
    FlagBeforeImage(&'static str),
    #[error("help was asked for")]
    Help,
    #[error(transparent)]
    Flag(#[from] FlagError),
}

/// Reads images, their flags and arguments. Flags of the pod are added to `pod`.
///
/// `both` are flags that mean the pod before the first image and the app after one (`--mount`).
pub(crate) fn parse(
    words: Vec<String>,
    pod: &mut Given,
    tables: &Tables<'_>,
) -> Result<Vec<AppWords>, AppsError> {
    if let Some(name) =
        pod.names().find(|name| flag::find(name, &[tables.app]).is_some() && !tables.both.contains(name))
    {
        return Err(AppsError::FlagBeforeImage(name));
    }
    let mut apps: Vec<AppWords> = Vec::new();
    let mut words: Words = words.into_iter();
    let known: Vec<&[Flag]> = tables.pod.iter().copied().chain([tables.app]).collect();
    while let Some(step) = flag::next(&mut words, &known)? {
        match step {
            Step::Help => return Err(AppsError::Help),
            Step::Word(word) if word.is_empty() || word == "---" => {}
            Step::Word(image) => apps.push(AppWords { image, ..AppWords::default() }),
            Step::Dashes => arguments(&mut words, apps.last_mut())?,
            Step::Flag(name, value) => {
                let of_app = flag::find(name, &[tables.app]).is_some();
                match apps.last_mut() {
                    Some(app) if of_app => app.flags.push(name, value),
                    None if of_app && !tables.both.contains(&name) => {
                        return Err(AppsError::FlagBeforeImage(name));
                    }
                    _ => pod.push(name, value),
                }
            }
        }
    }
    Ok(apps)
}

/// Which flags there are.
pub(crate) struct Tables<'a> {
    /// The pod's, and the global ones.
    pub(crate) pod: &'a [&'static [Flag]],
    /// Those of one app.
    pub(crate) app: &'static [Flag],
    /// Those of an app that mean all apps before the first image.
    pub(crate) both: &'a [&'static str],
}

fn arguments(words: &mut Words, app: Option<&mut AppWords>) -> Result<(), AppsError> {
    let app = app.ok_or(AppsError::NoImage)?;
    if app.args.is_some() {
        return Err(AppsError::Twice);
    }
    app.args = Some(words.by_ref().take_while(|word| word != "---").collect());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flag::{optional, value};

    const POD: &[Flag] = &[optional("net", "default", "")];
    const APP: &[Flag] = &[value("exec", "", ""), value("mount", "", "")];
    const TABLES: Tables<'_> = Tables { pod: &[POD], app: APP, both: &["mount"] };

    fn apps(words: &[&str]) -> Result<(Vec<AppWords>, Given), AppsError> {
        let mut pod = Given::default();
        let apps = parse(words.iter().map(|w| (*w).to_owned()).collect(), &mut pod, &TABLES)?;
        Ok((apps, pod))
    }

    #[test]
    fn flags_and_arguments_belong_to_the_image_before_them() {
        let words = ["a", "--exec=/x", "--", "--net=host", "-c", "---", "", "b", "--net=none", "--", "1"];
        let (apps, pod) = apps(&words).unwrap();
        assert_eq!(apps.len(), 2);
        assert_eq!(apps[0].flags.value("exec"), Some("/x"));
        assert_eq!(apps[0].args.as_deref(), Some(&["--net=host".to_owned(), "-c".to_owned()][..]));
        assert_eq!(apps[1].args.as_deref(), Some(&["1".to_owned()][..]));
        assert_eq!(pod.value("net"), Some("none"));
    }

    #[test]
    fn empty_arguments_are_not_no_arguments() {
        assert_eq!(apps(&["a", "--"]).unwrap().0[0].args, Some(Vec::new()));
        assert_eq!(apps(&["a"]).unwrap().0[0].args, None);
        assert_eq!(apps(&["---", "a"]).unwrap().0.len(), 1);
    }

    #[test]
    fn a_mount_before_the_images_is_for_all_of_them() {
        let (apps, pod) = apps(&["--mount=v", "a", "--mount=w"]).unwrap();
        assert_eq!((pod.value("mount"), apps[0].flags.value("mount")), (Some("v"), Some("w")));
    }

    #[test]
    fn sentences() {
        let sentence = |words: &[&str]| apps(words).unwrap_err().to_string();
        assert_eq!(sentence(&["--", "x"]), "an image is required before any app arguments");
        assert_eq!(
            sentence(&["a", "--", "x", "---", "--", "y"]),
            "only one set of app arguments allowed per image"
        );
        assert_eq!(sentence(&["--exec=/x", "a"]), "--exec must follow an image");
    }
}
