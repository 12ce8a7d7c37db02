-- The work of bench/peers as PostgreSQL tables and functions. One commit an operation, or one for a
-- batch of them. The hot row is written last, so that its lock is held as short as this can be.
CREATE TABLE stock (
    sku       int PRIMARY KEY,
    available bigint NOT NULL CHECK (available >= 0),
    held      bigint NOT NULL DEFAULT 0,
    sold      bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
CREATE TABLE reservation (
    id       uuid PRIMARY KEY, -- chosen by the caller: what makes a repeat harmless
    sku      int NOT NULL,
    buyer    int NOT NULL,
    units    int NOT NULL,
    state    "char" NOT NULL,  -- H held, C confirmed
    deadline timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX reservation_deadline ON reservation (deadline) WHERE state = 'H';
CREATE TABLE bought (
    sku int, buyer int, units int NOT NULL, PRIMARY KEY (sku, buyer)
) WITH (fillfactor = 80);
INSERT INTO stock VALUES (0, 1000000000);

CREATE FUNCTION reserve(asked_id uuid, asked_buyer int, most int) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    taken int;
BEGIN
    INSERT INTO reservation VALUES (asked_id, 0, asked_buyer, 1, 'H', now() + interval '10 minutes')
        ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
        RETURN 'REPEAT';
    END IF;
    INSERT INTO bought AS b VALUES (0, asked_buyer, 1)
        ON CONFLICT (sku, buyer) DO UPDATE SET units = b.units + 1 RETURNING units INTO taken;
    IF taken > most THEN
        RAISE EXCEPTION 'LIMIT_REACHED';
    END IF;
    UPDATE stock SET available = available - 1, held = held + 1 WHERE sku = 0 AND available >= 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'SOLD_OUT';
    END IF;
    RETURN 'OK';
END $$;

CREATE FUNCTION confirm(asked_id uuid) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE reservation SET state = 'C' WHERE id = asked_id AND state = 'H';
    IF NOT FOUND THEN
        RETURN 'REPEAT';
    END IF;
    UPDATE stock SET held = held - 1, sold = sold + 1 WHERE sku = 0;
    RETURN 'OK';
END $$;

-- Many pairs in a transaction; asked_ids[i] is for asked_buyers[i], each buyer once.
CREATE FUNCTION reserve_batch(asked_ids uuid[], asked_buyers int[], most int) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    granted bigint;
BEGIN
    WITH asked AS (
        SELECT * FROM unnest(asked_ids, asked_buyers) AS t (id, buyer)
    ), counted AS (
        INSERT INTO bought AS b SELECT 0, buyer, 1 FROM asked ORDER BY buyer
        ON CONFLICT (sku, buyer) DO UPDATE SET units = b.units + 1 WHERE b.units < most
        RETURNING buyer
    ), made AS (
        INSERT INTO reservation
        SELECT id, 0, buyer, 1, 'H', now() + interval '10 minutes'
        FROM asked JOIN counted USING (buyer)
        ON CONFLICT (id) DO NOTHING RETURNING 1
    )
    SELECT count(*) INTO granted FROM made;
    UPDATE stock SET available = available - granted, held = held + granted
        WHERE sku = 0 AND available >= granted;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'SOLD_OUT';
    END IF;
    RETURN granted;
END $$;

CREATE FUNCTION confirm_batch(asked_ids uuid[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    done bigint;
BEGIN
    WITH changed AS (
        UPDATE reservation SET state = 'C' WHERE id = ANY (asked_ids) AND state = 'H' RETURNING 1
    )
    SELECT count(*) INTO done FROM changed;
    UPDATE stock SET held = held - done, sold = sold + done WHERE sku = 0;
    RETURN done;
END $$;
