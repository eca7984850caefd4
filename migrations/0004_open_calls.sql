-- How many calls of a tenant have no outcome yet is counted when a projector meets the tenant for the first time; without this
-- index it would read all of the tenant's calls.

create index tool_call_open on tool_call (tenant_id) where finished_at is null;
