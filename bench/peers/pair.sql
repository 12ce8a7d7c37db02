-- pgbench: one pair on the hot row, two round trips and two commits.
\set buyer random(1, 10000000)
\set high random(0, 4611686018427387903)
\set low random(0, 4611686018427387903)
SELECT reserve((lpad(to_hex(CAST(:high AS bigint)), 16, '0') || lpad(to_hex(CAST(:low AS bigint)), 16, '0'))::uuid, :buyer, 5);
SELECT confirm((lpad(to_hex(CAST(:high AS bigint)), 16, '0') || lpad(to_hex(CAST(:low AS bigint)), 16, '0'))::uuid);
