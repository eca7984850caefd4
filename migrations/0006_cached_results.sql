-- Whether a call's result was made for an earlier call, and whether it is older than its caller accepts. Before there was a cache
-- every result was the call's own.

alter table tool_call
    add column cached boolean not null default false,
    add column stale  boolean not null default false;
