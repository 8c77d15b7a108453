//! `tawny search`: finds stored entries, page by page, or follows the ones that come.

mod args;
mod follow;
mod pages;
mod print;
mod time;

use tawny_query::Query;
use tawny_runtime::{Clock as _, SystemClock};

use args::Order;
pub(crate) use args::{Args, ClientFlags};
use pages::{Pages, Range};
use print::Printer;
pub(crate) use time::parse as parse_time;

use crate::{
    cli::{Context, Exit, Failure, OrExit as _, Outcome, Run},
    client::{self, Client},
};

impl Run for Args {
    async fn run(self, context: Context) -> Outcome {
        let loaded = context.load(self.client.clone().given())?;
        let query = self.query()?;
        let zone = self.looks.zone()?;
        let range = Range {
            query: query.text().to_owned(),
            from: self.from(SystemClock.now(), &zone)?,
            to: self.to(SystemClock.now(), &zone)?,
        };
        let mut printer = Printer::new(&self, &context.env, zone)?;
        let client = Client::new(&loaded.config.general.server).or_exit(Exit::Usage)?;
        if self.follow {
            let last = self
                .limit
                .or_else(|| range.from.is_none().then_some(FOLLOW_LAST));
            follow::run(&client, &range, last, &mut printer).await?;
            return Ok(Exit::Found);
        }
        let n_found = print_pages(&self, Pages::new(client, range), &mut printer).await?;
        printer.flush()?;
        Ok(if n_found == 0 {
            Exit::NothingFound
        } else {
            Exit::Found
        })
    }
}

/// Lines of the past that a bare `--follow` begins with, as `tail -f` does.
const FOLLOW_LAST: usize = 10;

/// Entries shown unless `--limit` says otherwise.
const DEFAULT_LIMIT: usize = 1_000;

/// Most entries held to be shown in the other order; at a kilobyte each they take 100 MB.
const MAX_HELD: usize = 100_000;

async fn print_pages(
    args: &Args,
    mut pages: Pages,
    printer: &mut Printer,
) -> Result<usize, Failure> {
    let limit = match args.limit {
        _ if args.quiet => 1,
        None => DEFAULT_LIMIT,
        // All there is: held by nobody, so it comes oldest first.
        Some(0) => usize::MAX,
        Some(limit) => limit,
    };
    let order = if limit == usize::MAX && args.order == Order::Latest {
        Order::Oldest
    } else {
        args.order
    };
    if order == Order::Latest && limit > MAX_HELD {
        return Err(Failure::new(
            Exit::Usage,
            anyhow::anyhow!(
                "--limit above {MAX_HELD} needs --order oldest or --order newest, which hold nothing back"
            ),
        ));
    }
    let mut n_found = 0;
    let mut held = Vec::new();
    while n_found < limit
        && let Some(page) = pages
            .next(order, limit - n_found)
            .await
            .map_err(of_client)?
    {
        n_found += page.len();
        if args.quiet {
            break;
        }
        match order {
            Order::Latest => held.extend(page),
            Order::Oldest | Order::Newest => printer.entries(page.iter())?,
        }
    }
    printer.entries(held.iter().rev())?;
    Ok(n_found)
}

/// A server's refusal of a query that passed here can only be one of another version; both texts are the server's.
pub(crate) fn of_client(error: client::Error) -> Failure {
    Failure::new(error.exit(), error)
}

/// Reads a query; a mistake is shown with a caret under it.
///
/// # Errors
/// `Usage`.
pub(crate) fn parse_query(text: &str) -> Result<Query, Failure> {
    Query::parse(text).map_err(|error| {
        Failure::new(
            Exit::Usage,
            anyhow::anyhow!("query does not parse\n{}", error.render(text)),
        )
    })
}
