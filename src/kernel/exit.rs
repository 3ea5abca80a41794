//! How the kernel ended the scheduler, and what it says of that.
//!
//! Its words hold names of tasks, of which any byte may be one: scx_utils' own reader takes them for text, and prints them as
//! they are.

use std::io::Write;

use anyhow::{Context, Result, bail};
use libbpf_rs::{MapCore, MapFlags};
use scx_ml_text::lines;
use scx_utils::{ScxExitKind, compat};

use crate::kernel::bpf::skel::BpfSkel;

/// What `ops.exit` has left for us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// 0: it has not ended.
    kind: i32,
    code: i64,
    /// Where it was decided, as far as the kernel says.
    cpu: Option<i32>,
    reason: String,
    message: String,
    dump: String,
}

/// C's text, to be printed.
fn text(bytes: impl IntoIterator<Item = u8>) -> String {
    let bytes: Vec<u8> = bytes.into_iter().take_while(|&b| b != 0).collect();
    lines(&String::from_utf8_lossy(&bytes))
}

impl Exit {
    /// Read it from the scheduler's memory.
    ///
    /// # Errors
    /// When that is not there.
    pub fn read(skel: &BpfSkel) -> Result<Self> {
        let data = skel.maps.data_data.as_ref();
        let uei = &data.context("the BPF object has no data")?.uei;
        let dump = skel
            .maps
            .data_uei_dump
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .context("cannot read the kernel's dump")?;
        let tells_cpu = compat::struct_has_field("scx_exit_info", "exit_cpu").unwrap_or(false);
        Ok(Self {
            kind: uei.kind,
            code: uei.exit_code,
            cpu: Some(uei.exit_cpu).filter(|&cpu| tells_cpu && cpu >= 0),
            reason: text(uei.reason.iter().map(|&c| c as u8)),
            message: text(uei.msg.iter().map(|&c| c as u8)),
            dump: text(dump.unwrap_or_default()),
        })
    }

    /// Print what there is to say.
    ///
    /// # Errors
    /// After an error's end: it says why.
    pub fn report(&self, out: &mut impl Write) -> Result<()> {
        if self.kind == 0 {
            return Ok(());
        }
        if !self.dump.is_empty() {
            let rule = "=".repeat(80);
            // Who cannot be told is not told.
            let _ = writeln!(out, "\nDEBUG DUMP\n{rule}\n\n{}\n{rule}\n", self.dump);
        }
        let cpu = self
            .cpu
            .map_or(String::new(), |cpu| format!(" on CPU {cpu}"));
        let why = match (self.reason.as_str(), self.message.as_str()) {
            ("", _) => format!("<UNKNOWN>{cpu}"),
            (reason, "") => format!("EXIT: {reason}{cpu}"),
            (reason, message) => format!("EXIT: {reason} ({message}){cpu}"),
        };
        if self.kind > ScxExitKind::UnregKern as i32 {
            bail!("{why}");
        }
        let _ = writeln!(out, "{why}");
        Ok(())
    }

    /// Whether the kernel asks for another start: CPUs have come or gone.
    pub fn should_restart(&self) -> bool {
        let by_program = [ScxExitKind::UnregBPF as i32, ScxExitKind::UnregKern as i32];
        by_program.contains(&self.kind) && self.code & *scx_utils::SCX_ECODE_ACT_RESTART as i64 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_kernels_words_are_printable() {
        let stalled = b"evil\x1b]0;x\x07\xff[7] failed to run for 5.1s\0rest".to_vec();
        let exit = Exit {
            kind: ScxExitKind::ErrorStall as i32,
            cpu: Some(1),
            reason: text(b"runnable task stall\0".to_vec()),
            message: text(stalled),
            dump: text(b"CPU states\n\x1b[2J R evil\x9b\n\0".to_vec()),
            ..Default::default()
        };
        let mut printed = vec![];
        let error = exit.report(&mut printed).expect_err("a stall").to_string();
        assert_eq!(
            error,
            "EXIT: runnable task stall (evil\\x1b]0;x\\x07\u{fffd}[7] failed to run for 5.1s) on CPU 1"
        );
        let printed = String::from_utf8(printed).expect("text");
        assert!(printed.contains("\n\\x1b[2J R evil\u{fffd}\n"), "{printed}");
        assert!(!exit.should_restart());
    }

    #[test]
    fn an_end_that_is_no_error_is_printed() {
        let exit = Exit {
            kind: ScxExitKind::Unreg as i32,
            reason: "unregistered from user space".into(),
            ..Default::default()
        };
        let mut printed = vec![];
        exit.report(&mut printed).expect("no error");
        assert_eq!(printed, b"EXIT: unregistered from user space\n");
        let mut none = vec![];
        Exit::default().report(&mut none).expect("no error");
        assert!(none.is_empty());
    }
}
