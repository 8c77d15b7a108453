//! What an exit code says: the signal behind it, a sentence for people, and how bad it is (BB-11, section 4.3).

use serde::{Deserialize, Serialize};
use tawny_model::observed::Terminated;

use crate::Severity;

/// How a process ended: its exit code, and its signal where the runtime names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exit {
    pub code: i32,
    /// `terminated.signal`; stands in place of code − 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

pub const SIGHUP: i32 = 1;
pub const SIGINT: i32 = 2;
pub const SIGQUIT: i32 = 3;
pub const SIGABRT: i32 = 6;
pub const SIGKILL: i32 = 9;
pub const SIGSEGV: i32 = 11;
pub const SIGTERM: i32 = 15;

/// Codes above this are 128 + the signal that ended the process, by the convention of shells and runtimes.
const SIGNAL_BASE: i32 = 128;
/// Linux knows signals 1 to 64.
const LAST_SIGNAL: i32 = 64;

/// Names of signals 1 to 31 on Linux (signal(7), x86 and ARM numbering).
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

impl Exit {
    pub fn of(terminated: &Terminated) -> Self {
        Self {
            code: terminated.exit_code,
            signal: terminated.signal.filter(|signal| *signal > 0),
        }
    }

    pub fn is_success(self) -> bool {
        self.code == 0 && self.signal.is_none()
    }

    /// The signal that ended the process, `None` when it ended by itself.
    pub fn signal(self) -> Option<i32> {
        self.signal.or_else(|| {
            let signal = self.code.checked_sub(SIGNAL_BASE)?;
            (1..=LAST_SIGNAL).contains(&signal).then_some(signal)
        })
    }

    /// `SIGSEGV`; `None` when no signal ended the process.
    pub fn signal_name(self) -> Option<String> {
        self.signal().map(signal_name)
    }

    /// Whether this is how a program ends that was asked to: by itself with 0, or by one of the stop signals.
    pub fn is_stop(self) -> bool {
        self.is_success()
            || matches!(
                self.signal(),
                Some(SIGHUP | SIGINT | SIGQUIT | SIGKILL | SIGTERM)
            )
    }

    /// `SIGSEGV` or `exit 1`: what the same failure has in common each time.
    pub fn label(self) -> String {
        self.signal_name()
            .unwrap_or_else(|| format!("exit {}", self.code))
    }

    /// What the code means, as the end of "it …": `ended with an application error (exit code 1)`.
    pub fn meaning(self) -> String {
        let code = self.code;
        if let Some(signal) = self.signal() {
            let what = match signal {
                SIGHUP => "lost its terminal",
                SIGINT => "was interrupted",
                SIGQUIT => "was told to quit and dump its state",
                4 => "ran an instruction this CPU does not know",
                5 => "hit a breakpoint trap",
                SIGABRT => "aborted itself, as a failed assertion or a panic does",
                7 => "touched memory that has nothing behind it, such as a truncated mapped file",
                8 => "divided by zero",
                SIGKILL => "was killed",
                SIGSEGV => "crashed on an invalid memory access",
                10 | 12 => "got a user signal it does not handle",
                13 => "wrote to a pipe nobody reads",
                14 => "ran into its own alarm",
                SIGTERM => "was asked to stop",
                24 => "used up its CPU time limit",
                25 => "wrote past its file size limit",
                31 => "made a system call that seccomp denies",
                _ => "was ended by a signal",
            };
            return format!("{what} ({}, exit code {code})", signal_name(signal));
        }
        let what = match code {
            0 => "finished normally",
            1 => "ended with an application error",
            2 => "was used wrongly or ended in a Go panic",
            125 => "was not started by the container runtime",
            126 => "has a command that cannot be executed",
            127 => "has a command, or a shared library, that does not exist",
            128 => "gave an invalid exit status or was never started",
            255 => "ended with -1, or its status was lost",
            _ => "ended with an error",
        };
        format!("{what} (exit code {code})")
    }

    /// How bad it is, `restarting` when the container is started again each time (section 4.3).
    ///
    /// SIGKILL and SIGTERM are rated here as nobody's doing; who did it is the cause's to say.
    pub fn severity(self, restarting: bool) -> Severity {
        match self.signal() {
            Some(SIGHUP | SIGINT) => return Severity::Low,
            Some(4..=8 | SIGSEGV | 24 | 25 | 31) => return Severity::High,
            Some(_) => return Severity::Medium,
            None => {}
        }
        match self.code {
            0 => Severity::Low,
            125..=127 => Severity::High,
            1 if restarting => Severity::High,
            _ => Severity::Medium,
        }
    }
}

/// The name of a Linux signal; one without a name keeps its number.
pub fn signal_name(signal: i32) -> String {
    let named = usize::try_from(signal - 1)
        .ok()
        .and_then(|idx| SIGNALS.get(idx));
    match named {
        Some(name) => (*name).to_owned(),
        // glibc takes 32 and 33 for itself, so that SIGRTMIN is 34.
        None if (34..=LAST_SIGNAL).contains(&signal) => format!("SIGRTMIN+{}", signal - 34),
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> Exit {
        Exit { code, signal: None }
    }

    #[test]
    fn every_code_of_the_table_has_its_signal_and_severity() {
        // BB-11 and section 4.3: code, signal, severity without and with a restart.
        use Severity::{High, Low, Medium};
        for (code, signal, once, restarting) in [
            (0, None, Low, Low),
            (1, None, Medium, High),
            (2, None, Medium, Medium),
            (3, None, Medium, Medium),
            (125, None, High, High),
            (126, None, High, High),
            (127, None, High, High),
            (128, None, Medium, Medium),
            (129, Some("SIGHUP"), Low, Low),
            (130, Some("SIGINT"), Low, Low),
            (131, Some("SIGQUIT"), Medium, Medium),
            (132, Some("SIGILL"), High, High),
            (133, Some("SIGTRAP"), High, High),
            (134, Some("SIGABRT"), High, High),
            (135, Some("SIGBUS"), High, High),
            (136, Some("SIGFPE"), High, High),
            (137, Some("SIGKILL"), Medium, Medium),
            (138, Some("SIGUSR1"), Medium, Medium),
            (139, Some("SIGSEGV"), High, High),
            (140, Some("SIGUSR2"), Medium, Medium),
            (141, Some("SIGPIPE"), Medium, Medium),
            (142, Some("SIGALRM"), Medium, Medium),
            (143, Some("SIGTERM"), Medium, Medium),
            (152, Some("SIGXCPU"), High, High),
            (153, Some("SIGXFSZ"), High, High),
            (159, Some("SIGSYS"), High, High),
            (162, Some("SIGRTMIN+0"), Medium, Medium),
            (255, None, Medium, Medium),
            (-1, None, Medium, Medium),
            (i32::MIN, None, Medium, Medium),
            (i32::MAX, None, Medium, Medium),
        ] {
            let exit = exit(code);
            assert_eq!(exit.signal_name().as_deref(), signal, "{code}");
            assert_eq!(exit.severity(false), once, "{code}");
            assert_eq!(exit.severity(true), restarting, "{code}");
            assert!(exit.meaning().contains(&code.to_string()), "{code}");
        }
    }

    #[test]
    fn a_signal_the_runtime_names_stands_in_place_of_the_code() {
        // Section 4.3, last row.
        let exit = Exit::of(&Terminated {
            exit_code: 2,
            signal: Some(SIGSEGV),
            ..Terminated::default()
        });
        assert_eq!(exit.label(), "SIGSEGV");
        assert_eq!(exit.severity(false), Severity::High);
        let none = Exit::of(&Terminated {
            exit_code: 1,
            signal: Some(0),
            ..Terminated::default()
        });
        assert_eq!(none.label(), "exit 1");
    }

    #[test]
    fn meaning_is_a_sentence_for_people() {
        assert_eq!(
            exit(139).meaning(),
            "crashed on an invalid memory access (SIGSEGV, exit code 139)"
        );
        assert_eq!(
            exit(127).meaning(),
            "has a command, or a shared library, that does not exist (exit code 127)"
        );
        assert!(exit(159).meaning().contains("seccomp"));
        assert!(!exit(137).meaning().contains("memory"));
    }

    #[test]
    fn a_stop_is_told_from_a_crash() {
        for code in [0, 130, 131, 137, 143] {
            assert!(exit(code).is_stop(), "{code}");
        }
        for code in [1, 2, 127, 134, 139, 255] {
            assert!(!exit(code).is_stop(), "{code}");
        }
    }
}
