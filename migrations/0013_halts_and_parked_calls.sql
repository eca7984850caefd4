-- Why a partition stands still is written where readers of the checkpoints find it; and a parked event holds back its own call.

-- Set while a partition is not projected, and taken away when it is. `halted_sequence` is the place in the log that was found wrong, which
-- is looked at again before the partition goes on: without it a restart would go on past damage that lies far back.
alter table projection_checkpoint
    add column halted_reason   text,
    add column halted_at       timestamptz,
    add column halted_sequence bigint,
    add constraint projection_checkpoint_halt_check check (
        (halted_reason is null) = (halted_at is null) and (halted_sequence is null or halted_reason is not null)
    );

-- Later events of a call wait for the one that is parked, so parked events are looked for by their call.
alter table parked_event
    add column position     bigint,
    add column aggregate_id uuid,
    -- Few and fixed, unlike reasons: what is counted. The event is not understood, the database refused what follows from it, or it
    -- waits for another of its call.
    add column kind         text not null default 'not_understood' check (kind in ('not_understood', 'refused', 'waiting'));

-- What was parked before. The owner has no policy of its own: it gets one for the length of this transaction.
do $$
begin
    execute format('create policy back_fill on parked_event to %I using (true) with check (true)', current_user);
    execute format('create policy back_fill on audit_event for select to %I using (true)', current_user);
    update parked_event p set position = a.position, aggregate_id = a.aggregate_id
        from audit_event a where a.tenant_id = p.tenant_id and a.stream_sequence = p.stream_sequence;
    drop policy back_fill on parked_event;
    drop policy back_fill on audit_event;
end
$$;

alter table parked_event alter column position set not null, alter column aggregate_id set not null;
create index parked_event_call on parked_event (tenant_id, aggregate_id, position);

-- An event that could be projected after all is parked no longer.
grant delete on parked_event to toolgate_projector;
