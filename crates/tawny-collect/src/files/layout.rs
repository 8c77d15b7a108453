//! The names under `/var/log/pods` (VK-7): `<namespace>_<pod>_<uid>/<container>/<N>.log[.<time>[.gz]][.tmp]`.

use std::cmp::Ordering;

/// What the name of a pod's directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PodDirName<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) uid: &'a str,
}

impl<'a> PodDirName<'a> {
    /// `None` for a directory that is no pod's. No part can hold a `_`: all are DNS names or UIDs.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.split('_');
        let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none() && ![namespace, pod, uid].contains(&"");
        is_whole.then_some(Self {
            namespace,
            pod,
            uid,
        })
    }
}

/// The name of one log file: which run of the container, and which of its generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogName {
    /// The `N` of `N.log`.
    pub(super) restart: u32,
    /// What follows `N.log.`, without endings; empty for the file being written.
    pub(super) stem: Box<str>,
    pub(super) is_gz: bool,
    pub(super) is_tmp: bool,
}

impl LogName {
    /// `None` for a file that is no container log.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (number, rest) = name.split_once(".log")?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let restart = number.parse().ok().filter(|_| is_number)?;
        let (rest, is_tmp) = strip(rest, ".tmp");
        let (rest, is_gz) = strip(rest, ".gz");
        let stem = match rest.strip_prefix('.') {
            Some(stem) if !stem.is_empty() => stem,
            None if rest.is_empty() => "",
            _ => return None,
        };
        Some(Self {
            restart,
            stem: stem.into(),
            is_gz,
            is_tmp,
        })
    }

    /// The run's file that is written to now.
    pub(super) fn is_current(&self) -> bool {
        self.stem.is_empty() && !self.is_gz && !self.is_tmp
    }

    /// Oldest first within one run: rotated files by time, then the one being written. Of two copies of a generation
    /// the plain one comes first.
    pub(super) fn cmp_age(&self, other: &Self) -> Ordering {
        let rank = |name: &Self| (name.is_current(), name.stem.is_empty());
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.stem.cmp(&other.stem))
            .then_with(|| (self.is_gz, self.is_tmp).cmp(&(other.is_gz, other.is_tmp)))
    }
}

fn strip<'a>(text: &'a str, ending: &str) -> (&'a str, bool) {
    match text.strip_suffix(ending) {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pod_directory_has_three_parts() {
        let parsed = PodDirName::parse(
            "kube-system_coredns-5d78c9869d-abcde_6f1c2f0e-1111-2222-3333-444455556666",
        );
        assert_eq!(
            parsed.map(|name| (name.namespace, name.pod)),
            Some(("kube-system", "coredns-5d78c9869d-abcde")),
            "VK-7"
        );
        for name in [
            "",
            "a",
            "a_b",
            "a_b_",
            "_b_c",
            "a__c",
            "a_b_c_d",
            "lost+found",
        ] {
            assert_eq!(PodDirName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn log_names_tell_run_and_generation() {
        for (name, restart, stem, is_gz, is_tmp) in [
            ("0.log", 0, "", false, false),
            (
                "12.log.20240102-030405",
                12,
                "20240102-030405",
                false,
                false,
            ),
            (
                "0.log.20240102-030405.gz",
                0,
                "20240102-030405",
                true,
                false,
            ),
            (
                "0.log.20240102-030405.tmp",
                0,
                "20240102-030405",
                false,
                true,
            ),
            (
                "0.log.20240102-030405.gz.tmp",
                0,
                "20240102-030405",
                true,
                true,
            ),
            ("0.log.tmp", 0, "", false, true),
            ("0.log.1", 0, "1", false, false),
        ] {
            let expected = LogName {
                restart,
                stem: stem.into(),
                is_gz,
                is_tmp,
            };
            assert_eq!(LogName::parse(name), Some(expected), "VK-7: {name}");
        }
        for name in [
            "",
            "0.txt",
            "app.log",
            "-1.log",
            "+1.log",
            ".log",
            "0.logx",
            "0.log.",
            "99999999999.log",
        ] {
            assert_eq!(LogName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn generations_sort_oldest_first() {
        let expected = [
            "0.log.20240101-000000",
            "0.log.20240101-000000.gz",
            "0.log.20240102-000000",
            "0.log.tmp",
            "0.log",
        ];
        let mut names: Vec<_> = expected
            .iter()
            .rev()
            .filter_map(|name| LogName::parse(name))
            .collect();
        names.sort_by(LogName::cmp_age);
        let expected: Vec<_> = expected
            .iter()
            .filter_map(|name| LogName::parse(name))
            .collect();
        assert_eq!(names, expected);
    }

    proptest! {
        #[test]
        fn any_name_is_survived(name in "[0-9a-z._é-]{0,30}") {
            let _parsed = (PodDirName::parse(&name), LogName::parse(&name));
        }
    }
}
