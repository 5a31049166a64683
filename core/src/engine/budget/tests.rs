use super::*;

#[tokio::test(start_paused = true)]
async fn a_permit_for_a_pool_that_left_goes_to_the_next() {
    let budget = Budget::new(1, 1);
    let (one, other) = (budget.member(None), budget.member(None));
    let held = budget.try_acquire(&one).unwrap();
    let (gone, mut stays) = (budget.line_up(&one), budget.line_up(&other));
    drop(held);
    // It was given to the first, which never looked.
    assert_eq!((budget.held_by(&one), budget.held_by(&other)), (1, 0));
    drop(gone);
    let mut got = stays.permit().await;
    assert_eq!((budget.held_by(&one), budget.held_by(&other)), (0, 1));
    let drained = tokio::spawn({
        let budget = budget.clone();
        async move { budget.drained().await }
    });
    tokio::task::yield_now().await;
    assert!(!drained.is_finished());
    // The server may count the session for a moment longer.
    got.lingers = LINGERING;
    let dropped_at = Instant::now();
    drop(got);
    drained.await.unwrap();
    assert!(dropped_at.elapsed() >= LINGERING);
}

#[tokio::test]
async fn a_permit_of_no_pool_is_no_open_pool() {
    let budget = Budget::new(2, 1);
    let check = budget.member(None);
    let _permit = budget.try_acquire(&check).unwrap();
    let mut pools = PoolMetrics::default();
    budget.report(&mut pools);
    assert_eq!((pools.open, pools.connections), (0, 1));
}
