-- pgbench: :batch pairs of as many buyers in two transactions.
\set buyer random(1, 10000000 - :batch)
\set high random(0, 4611686018427387903)
SELECT reserve_batch(array(SELECT (lpad(to_hex(CAST(:high AS bigint)), 16, '0') || lpad(to_hex(n), 16, '0'))::uuid FROM generate_series(1, :batch) n), array(SELECT (:buyer + n)::int FROM generate_series(1, :batch) n), 5);
SELECT confirm_batch(array(SELECT (lpad(to_hex(CAST(:high AS bigint)), 16, '0') || lpad(to_hex(n), 16, '0'))::uuid FROM generate_series(1, :batch) n));
