//! The way to a bucket: which service a URL names, and how long a request to it is repeated before it is given up.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig,
    aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, path::Path,
    prefix::PrefixStore,
};
use tawny_model::Secret;
use url::Url;

/// Longest a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest one request may take, its body included: a part of an upload at half a megabyte per second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that is busy or away is asked so often in all, over about three seconds; what asked then says what failed.
const MAX_RETRIES: usize = 5;

/// No request is repeated once it has gone on for so long: half of the time a query has.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

const NO_BUCKET: &str = "only s3://, gs:// and az:// name a bucket";

/// Opens the bucket of a URL; its root is the path in it.
///
/// `options` are those of the `object_store` crate, such as `aws_endpoint`; those of other services are left out.
///
/// # Errors
/// Why there is no way to it. Nothing is asked of the bucket yet.
pub(super) fn connect(
    url: &Url,
    options: &[(String, Secret)],
) -> Result<Arc<dyn ObjectStore>, String> {
    let Ok((scheme, prefix)) = ObjectStoreScheme::parse(url) else {
        return Err(NO_BUCKET.to_owned());
    };
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 3.,
        },
        max_retries: MAX_RETRIES,
        retry_timeout: RETRY_TIMEOUT,
    };
    let client = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT);
    macro_rules! build {
        ($Builder:ty) => {{
            // Client options first: the URL's and the user's own change them.
            let mut builder = <$Builder>::new()
                .with_client_options(client)
                .with_retry(retry)
                .with_url(url.as_str());
            for (key, value) in options {
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value.expose());
                }
            }
            let store = builder.build().map_err(|error| error.to_string())?;
            Ok(within(store, prefix))
        }};
    }
    match scheme {
        ObjectStoreScheme::AmazonS3 => build!(AmazonS3Builder),
        ObjectStoreScheme::GoogleCloudStorage => build!(GoogleCloudStorageBuilder),
        ObjectStoreScheme::MicrosoftAzure => build!(MicrosoftAzureBuilder),
        _ => Err(NO_BUCKET.to_owned()),
    }
}

fn within(store: impl ObjectStore, prefix: Path) -> Arc<dyn ObjectStore> {
    Arc::new(PrefixStore::new(store, prefix))
}
