-- The audit trail in the columns that postgres-es reads, so that cqrs-es replays history with the reader's rights: a view that shows
-- what its reader may see, and nothing else.
--
-- The order is the tenant's, which is also that of each call. Which call is meant is said in the session's setting
-- app.current_call: postgres-es compares ids as text, and no index would help it.

create view tenant_event with (security_invoker = true) as
    select aggregate_type, aggregate_id::text as aggregate_id, position as sequence, event_type,
        event_version::text as event_version, data as payload,
        json_build_object('event_id', event_id, 'occurred_at', occurred_at, 'actor', actor, 'event_type', event_type,
            'event_version', event_version::text) as metadata
    from audit_event;

create view call_event with (security_invoker = true) as
    select aggregate_type, aggregate_id::text as aggregate_id, position as sequence, event_type,
        event_version::text as event_version, data as payload,
        json_build_object('event_id', event_id, 'occurred_at', occurred_at, 'actor', actor, 'event_type', event_type,
            'event_version', event_version::text) as metadata
    from audit_event
    where aggregate_id = (select nullif(current_setting('app.current_call', true), '')::uuid);

grant select on tenant_event, call_event to toolgate_reader;
