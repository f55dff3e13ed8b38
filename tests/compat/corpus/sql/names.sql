-- Names of columns.
SELECT 1 AS a, 2 AS a;
SELECT 1 AS a, 2 AS A, 3 AS `a`;
SELECT * FROM (SELECT 1 AS id, 'l' AS x) l JOIN (SELECT 1 AS id, 'r' AS x) r ON l.id = r.id;
SELECT 1 AS `with blank`, 2 AS `with.dot`, 3 AS `with``tick`, 4 AS `with"quote`, 5 AS `with'apostrophe`, 6 AS `a,b;c`;
SELECT 1 AS `käse`, 2 AS `日本`, 3 AS `😀`, 4 AS `UPPER`, 5 AS `line
feed`;
SELECT 1 AS ``;
SELECT 1 AS ` `, 2 AS `  x  `;
SELECT 1 + 1, 'a' || 'b', CAST(1 AS STRING), array(1)[0], map('k', 1)['k'], count(*), -1, NOT true, 1.50, 'it''s', NULL, (SELECT 1), struct(1).col1;
SELECT upper('x'), CASE WHEN true THEN 1 END, 1 IN (1, 2), 'a' LIKE 'b', DATE'2020-01-01', TIMESTAMP'2020-01-01 00:00:00', INTERVAL '1' DAY, X'00FF', interval 1 month;
SELECT 1 AS select, 2 AS from, 3 AS table, 4 AS `null`;
SELECT id AS x, id AS y, x + 1 AS z FROM range(1);
SELECT 'a very long name' AS this_is_a_name_of_a_column_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on;
SELECT sum(id), sum(DISTINCT id), count(DISTINCT id, id % 2), max(id) FILTER (WHERE id > 0), first(id, true) FROM range(1);
SELECT explode(array(1)), posexplode(array('a'));
SELECT explode(map('a', 1));
SELECT named_struct('a', 1).a, named_struct('a', 1), named_struct('a b', 1)['a b'];
