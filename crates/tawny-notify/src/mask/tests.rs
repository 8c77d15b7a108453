//! What is taken for a secret, what is not, and that any text survives.

use proptest::prelude::*;

use super::*;

fn masked(text: &str) -> String {
    mask(text).text.into_owned()
}

#[test]
fn secrets_of_every_kind_are_masked_section_8_row_15() {
    for (text, expected) in [
        (
            "curl -H 'Authorization: Bearer abc.def-123'",
            "curl -H 'Authorization: Bearer ***'",
        ),
        (
            "authorization=Basic dXNlcjpwYXNz",
            "authorization=Basic ***",
        ),
        (
            "got Bearer A1b2C3d4E5 from client",
            "got Bearer *** from client",
        ),
        (
            "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_x ok",
            "jwt *** ok",
        ),
        ("password=hunter2 user=bob", "password=*** user=bob"),
        ("DB_PASSWORD: hunter2", "DB_PASSWORD: ***"),
        (
            r#"{"password":"hun\"ter2","user":"bob"}"#,
            r#"{"password":"***","user":"bob"}"#,
        ),
        (
            r#"{"msg":"{\"password\":\"hunter2\"}"}"#,
            r#"{"msg":"{\"password\":\"***\"}"}"#,
        ),
        ("{Token:abc123 User:bob}", "{Token:*** User:bob}"),
        ("refresh_token: abc123", "refresh_token: ***"),
        ("?api-key=k&x=1", "?api-key=***&x=1"),
        ("/blob?se=2026&sig=ab%2Fc", "/blob?se=2026&sig=***"),
        (
            "Server=db;Password=a b;Database=x",
            "Server=db;Password=*** b;Database=x",
        ),
        ("key AKIAIOSFODNN7EXAMPLE used", "key *** used"),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "aws_secret_access_key = ***",
        ),
        (
            "postgres://app:s3cr3t@db:5432/shop",
            "postgres://app:***@db:5432/shop",
        ),
        ("redis://:s3cr3t@cache:6379", "redis://:***@cache:6379"),
        (
            "https://0123456789abcdef@git.example/x",
            "https://***@git.example/x",
        ),
        (
            "token ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "token ***",
        ),
        ("xoxb-1234567890-abcdef", "***"),
        (
            "POST https://hooks.slack.com/services/T0/B0/xyz failed",
            "POST https://hooks.slack.com/services/*** failed",
        ),
        ("Set-Cookie: sid=1; Path=/", "Set-Cookie: ***"),
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nxyz\n-----END RSA PRIVATE KEY-----\nb",
            "a\n***\nb",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIEabc", "***"),
        (
            "MIGHAgEAMBMGByqGSM49AgEG\nBG0wawIBAQQg6rhOQnl5\n-----END EC PRIVATE KEY-----\nnext",
            "***\nnext",
        ),
    ] {
        assert_eq!(masked(text), expected);
        assert!(mask(text).n_secrets >= 1, "{text}");
    }
}

#[test]
fn what_programs_and_kubernetes_say_without_secrets_stays() {
    for text in [
        "Container web of Deployment shop/api (pod api-5d4f8-x2 on node n1) exited with code 1.",
        r#"Error: secret "db" not found"#,
        "cannot be created: secret: not found",
        "invalid token: it has expired",
        "Bearer authentication failed",
        "token_count=512 tokens=7",
        "GET https://shop.example:8443/cart?item=7 500",
        "ssh://git@git.example/repo",
        "key=value passwords are hashed",
        "killed sig=9",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "registry.example/app@sha256:0123456789abcdef",
    ] {
        let Masked {
            text: left,
            n_secrets,
        } = mask(text);
        assert_eq!((&*left, n_secrets), (text, 0));
        assert!(matches!(left, Cow::Borrowed(_)));
    }
}

#[test]
fn each_secret_is_counted_once() {
    let text = "password=a password=b postgres://u:c@h";
    assert_eq!(mask(text).n_secrets, 3);
}

/// Pieces that the rules look for, so that random texts meet them.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("password=".to_owned()),
        Just("\"token\": ".to_owned()),
        Just("\\\"secret\\\":\\\"".to_owned()),
        Just("bearer ".to_owned()),
        Just("Authorization: ".to_owned()),
        Just("Cookie: ".to_owned()),
        Just("://".to_owned()),
        Just("http".to_owned()),
        Just("@".to_owned()),
        Just(":".to_owned()),
        Just("***".to_owned()),
        Just("*".to_owned()),
        Just("eyJhbGciOi.x.".to_owned()),
        Just("AKIAIOSFODNN7EXAMPLE".to_owned()),
        Just("-----BEGIN PRIVATE KEY-----".to_owned()),
        Just("-----END PRIVATE KEY-----".to_owned()),
        Just("\n".to_owned()),
        "[a-zA-Z0-9é \"'\\\\,;=./_-]{0,12}",
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn masking_is_idempotent_and_never_panics(text in pieces()) {
        let once = mask(&text);
        let twice = mask(&once.text);
        prop_assert_eq!(&twice.text, &once.text);
        prop_assert_eq!(twice.n_secrets, 0);
    }

    #[test]
    fn a_password_is_gone_whatever_is_around_it(
        before in "[a-z \n:;]{0,20}",
        secret in "[A-Z0-9]{6,30}",
        after in "[ ,;&}\n][a-z :=\n]{0,20}",
    ) {
        let text = format!("{before}password={secret}{after}");
        prop_assert!(!masked(&text).contains(&secret), "{}", masked(&text));
    }
}
