//! A running commentary on stderr, for who sets `RKT_DEBUG=1`.

use std::fmt::Arguments;
use std::io::Write;

use pod::stage1::ENV_DEBUG;

/// Says what is being done, if anybody wants to know: `commentary::say(format_args!("mount {path}"))`.
pub fn say(what: Arguments<'_>) {
    if std::env::var_os(ENV_DEBUG).is_some_and(|value| value == "1") {
        // Who asked for it and closed stderr does without.
        let _ = writeln!(std::io::stderr(), "{what}");
    }
}
