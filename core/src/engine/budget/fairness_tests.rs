use super::*;

type Books = State<HolderId, ()>;
const RICH: HolderId = 1;
const POOR: HolderId = 2;
const NEW: HolderId = 3;
const QUICK: Duration = Duration::ZERO;

/// Books in which the first of `held` holds so many permits, and so on.
fn books(held: &[(HolderId, usize)]) -> Books {
    let mut books = State::new(held.iter().map(|(_, count)| count).sum(), 0);
    for (holder, count) in held {
        (0..*count).for_each(|_| assert!(books.take(*holder, holder)));
    }
    books
}

fn returned(open: usize, wanted_at_home: bool) -> Returned {
    Returned {
        open,
        held_for: LONGEST_TENURE,
        opening: QUICK,
        wanted_at_home,
    }
}

#[test]
fn idle_connections_go_at_once_and_busy_ones_later() {
    let mut books = books(&[(POOR, 1)]);
    let (start, later) = (Instant::now(), Instant::now() + PATIENCE * 2);
    assert!(!books.wants_back(POOR, returned(1, false), start), "nobody waits");
    books.line_up(NEW, &NEW, start, ());
    assert!(books.wants_back(POOR, returned(1, false), start), "nobody has two");
    assert!(!books.wants_back(POOR, returned(1, true), start));
    assert!(books.wants_back(POOR, returned(1, true), later));
    let just_opened = Returned {
        held_for: QUICK,
        ..returned(1, true)
    };
    assert!(!books.wants_back(POOR, just_opened, later));
    let slow_to_open = Returned {
        held_for: SHORTEST_TENURE,
        opening: SHORTEST_TENURE,
        ..returned(1, true)
    };
    assert!(!books.wants_back(POOR, slow_to_open, later));
    books.begin_closing(POOR);
    assert!(
        !books.wants_back(POOR, returned(1, false), later),
        "a permit is on its way already"
    );
}

#[test]
fn a_tenure_protects_only_what_its_own_tenant_wants() {
    let mut books = books(&[(POOR, 1)]);
    let (start, later) = (Instant::now(), Instant::now() + PATIENCE * 2);
    books.line_up(NEW, &NEW, start, ());
    let moment = Duration::from_millis(1);
    // Whether its own tenant wants it, how long it was open, how long opening took, and whether it
    // goes.
    for (wanted_at_home, held_for, opening, goes) in [
        (false, QUICK, QUICK, true),
        (true, SHORTEST_TENURE - moment, QUICK, false),
        (true, SHORTEST_TENURE, QUICK, true),
        (true, LONGEST_TENURE - moment, LONGEST_TENURE, false),
        (true, LONGEST_TENURE, LONGEST_TENURE, true),
    ] {
        let returned = Returned {
            open: 1,
            held_for,
            opening,
            wanted_at_home,
        };
        assert_eq!(books.wants_back(POOR, returned, later), goes, "{returned:?}");
    }
}

#[test]
fn the_only_one_who_waits_takes_nothing_from_itself() {
    let mut books = books(&[(POOR, 1)]);
    let start = Instant::now();
    books.line_up(POOR, &POOR, start, ());
    assert!(!books.wants_back(POOR, returned(1, false), start + LONGEST_TENURE));
}

#[test]
fn one_takes_only_from_who_has_two_more() {
    let mut books = books(&[(RICH, 3), (POOR, 1)]);
    let (start, later) = (Instant::now(), Instant::now() + PATIENCE * 2);
    books.line_up(RICH, &RICH, start, ());
    assert!(
        !books.wants_back(POOR, returned(1, true), later),
        "the rich take nothing"
    );
    assert!(
        !books.wants_back(POOR, returned(1, false), later),
        "not even an idle only one"
    );
    books.line_up(POOR, &POOR, start, ());
    assert!(books.wants_back(RICH, returned(3, true), later));
    books.line_up(NEW, &NEW, start, ());
    books.begin_closing(RICH);
    // The permit goes to the one that has none.
    assert_eq!(books.give_back(), Some((NEW, ())));
    assert!(
        !books.wants_back(RICH, returned(2, true), later),
        "one more is no injustice"
    );
}

#[test]
fn an_only_connection_stays_for_a_while_beside_richer_pools() {
    let mut books = books(&[(RICH, 3), (POOR, 1)]);
    let (start, later) = (Instant::now(), Instant::now() + PATIENCE * 2);
    books.line_up(POOR, &POOR, start, ());
    books.line_up(NEW, &NEW, start, ());
    assert!(
        !books.wants_back(POOR, returned(1, false), start),
        "the rich can spare one sooner"
    );
    assert!(books.wants_back(RICH, returned(3, false), start), "one of several");
    assert!(books.wants_back(POOR, returned(1, false), later));
}

#[test]
fn the_last_permits_are_for_pools_that_hold_none() {
    let mut books = Books::new(4, 1);
    (0..3).for_each(|_| assert!(books.take(RICH, &RICH)));
    assert!(!books.take(RICH, &RICH));
    books.line_up(RICH, &RICH, Instant::now(), ());
    assert_eq!(books.grant(), None);
    assert!(books.take(NEW, &NEW));
    books.begin_closing(RICH);
    assert_eq!(books.give_back(), None, "the next pool may need it");
    books.begin_closing(RICH);
    assert_eq!(books.give_back(), Some((RICH, ())));
}

#[test]
fn an_only_connection_stays_unless_another_pool_has_none() {
    let now = Instant::now() + FORGOTTEN_AFTER * 2;
    let only = Idle {
        since: now - SPARE_AFTER,
        several: false,
    };
    assert!(!only.may_go(now, SPARE_AFTER, false) && only.may_go(now, SPARE_AFTER, true));
    assert!(Idle { several: true, ..only }.may_go(now, SPARE_AFTER, false));
    let forgotten = Idle {
        since: now - FORGOTTEN_AFTER,
        ..only
    };
    assert!(forgotten.may_go(now, SPARE_AFTER, false));
    assert!(Idle { several: true, ..only }.rank(now) > forgotten.rank(now));
}
