-- Arrays.
SELECT array(), array(NULL), array(1, NULL, 3), array(true, false, NULL), array(1Y, 2Y), array(1S), array(9223372036854775807L);
SELECT array('a', '', NULL, 'with "quotes"', 'back\\slash', 'new\nline', 'tab\t', '\'single\'', 'käse 😀');
SELECT array(X'00FF', X'', X'6162', NULL, CAST('käse' AS BINARY));
SELECT array(array(1, 2), array(), NULL, array(NULL)), array(array(array('deep')));
SELECT array(struct(1 AS a, 'x' AS b), struct(2 AS a, NULL AS b), NULL), array(map('a', 1), map(), NULL);
SELECT array(NULL, CAST(NULL AS STRING)), array(CAST(NULL AS ARRAY<INT>)), typeof(array());
-- Maps.
SELECT map(), map('a', 1, 'b', 2), map('b', 2, 'a', 1), map('a', NULL), map('', 'empty key');
SELECT map(1, 'a', 2, NULL, 10, 'b', -1, 'c'), map(1.5D, 'd', 0.5D, 'e'), map(true, 1, false, 0), map(1.50, 'x', 10.00, 'y');
SELECT map('z', 1, 'é', 2, '😀', 3, '！', 4, 'a"b', 5, 'Z', 6), map('10', 1, '9', 2, '1', 3);
SELECT map(DATE'2020-01-02', 1, DATE'1500-01-01', 2), map(TIMESTAMP'2020-01-02 00:00:00', 1), map(X'6162', 'ab', X'00', 'zero');
SELECT map('k', map('i', map('j', NULL))), map('k', array(1, NULL)), map('k', struct(1 AS a, NULL AS b)), map(struct(1 AS a), 'struct key'), map(array(1, 2), 'array key');
SELECT map('a', CAST(NULL AS ARRAY<INT>), 'b', array()), map_from_arrays(array('x', 'y'), array(1, NULL)), map_from_entries(array(struct('p', 1), struct('q', NULL))), str_to_map('a:1,b:2,c');
SELECT map('dup', 1, 'dup', 2);
SELECT map(NULL, 1);
-- Structs.
SELECT struct(1, 'a', NULL), named_struct('x', 1, 'y', 'z', 'n', NULL), struct(), named_struct('a b', 1, 'c"d', 2, 'e.f', 3, '', 4, 'ü', 5);
SELECT named_struct('a', 1, 'a', 2, 'A', 3), struct(1 AS a, 2 AS a), array(named_struct('a', 1, 'a', 2)), map('m', named_struct('a', 1, 'a', 'two')), named_struct('s', named_struct('a', 1, 'a', 2));
SELECT struct(struct(struct(1 AS c) AS b) AS a), struct(array(struct(map('k', array(1, NULL)) AS m)) AS a), named_struct('n', NULL, 's', CAST(NULL AS STRUCT<x: INT>));
SELECT struct(true AS b, 1Y AS y, 2S AS s, 3 AS i, 4L AS l, 0.5f AS f, 1e10D AS d, 1.50 AS dec, 'str' AS str, X'4142' AS bin, DATE'2020-01-02' AS dt, TIMESTAMP'2020-01-02 03:04:05.6' AS ts, TIMESTAMP_NTZ'2020-01-02 03:04:05' AS ntz, INTERVAL '1-2' YEAR TO MONTH AS ym, INTERVAL '1 2:3:4' DAY TO SECOND AS dtm, NULL AS n) AS every;
SELECT array(struct(true AS b, 1Y AS y, 2S AS s, 3 AS i, 4L AS l, 0.5f AS f, 1e10D AS d, 1.50 AS dec, 'str' AS str, X'4142' AS bin, DATE'2020-01-02' AS dt, TIMESTAMP'2020-01-02 03:04:05.6' AS ts)) AS a, map('every', struct(INTERVAL '1-2' YEAR TO MONTH AS ym, INTERVAL '1 2:3:4' DAY TO SECOND AS dtm, make_interval(1) AS ci, parse_json('{"a":1}') AS v)) AS m;
SELECT CAST(struct(NULL, NULL) AS STRUCT<a: INT, b: STRING>), CAST(array(NULL) AS ARRAY<DOUBLE>), CAST(map('a', NULL) AS MAP<STRING, TIMESTAMP>);
SELECT array(CAST(NULL AS BOOLEAN)), array(CAST(NULL AS DATE)), array(CAST(NULL AS TIMESTAMP)), array(CAST(NULL AS DECIMAL(10,2))), array(CAST(NULL AS BINARY)), array(CAST(NULL AS INTERVAL DAY)), array(CAST(NULL AS FLOAT));
-- Nested columns over rows.
SELECT id, IF(id % 2 = 0, NULL, array(id, NULL, id + 1)) AS a, IF(id % 3 = 0, NULL, map(CAST(id AS STRING), id)) AS m, IF(id % 4 = 0, NULL, struct(id AS x, IF(id > 3, NULL, 'low') AS y)) AS s FROM range(12) ORDER BY id;
SELECT id, array_repeat(id, CAST(id AS INT)) AS a, map_from_arrays(sequence(0, id), sequence(0, id)) AS m FROM range(12) ORDER BY id;
-- Functions.
SELECT split('a,b,,c', ','), sort_array(array(3, NULL, 1), false), array_distinct(array(1, 1, NULL, NULL)), flatten(array(array(1), array(2, NULL))), sequence(1, 5), sequence(5, 1, -2), slice(array(1, 2, 3), 2, 2), array_join(array('a', NULL, 'c'), '-', '?');
SELECT transform(array(1, 2), x -> x * 1.5), filter(array(1, NULL, 3), x -> x IS NOT NULL), aggregate(array(1, 2, 3), 0, (a, x) -> a + x), exists(array(1, 2), x -> x > 1), zip_with(array(1, 2), array('a'), (x, y) -> struct(x, y)), map_filter(map('a', 1, 'b', 2), (k, v) -> v > 1), transform_values(map('a', 1), (k, v) -> array(v));
SELECT arrays_zip(array(1, 2), array('a')), map_entries(map('a', 1)), map_keys(map('a', 1)), map_values(map('a', NULL)), map_concat(map('a', 1), map('b', 2)), element_at(array(1, 2), -1), element_at(map('a', 1), 'z'), cardinality(array(1, NULL)), array_contains(array(1, NULL), 2);
SELECT array(1, 2)[5];
SELECT element_at(array(1), 0);
SELECT collect_list(id), collect_set(id % 1), array_agg(IF(id = 1, NULL, id)) FROM (SELECT id FROM range(0, 4, 1, 1));
SELECT to_json(map('a', array(1, NULL), 'b', NULL)), to_json(struct(NULL AS n, 1 AS a)), from_json('{"a": [1, 2], "b": {"c": "x"}}', 'a ARRAY<INT>, b STRUCT<c: STRING>'), from_json('[1, "x"]', 'ARRAY<INT>'), schema_of_json('{"a": 1.5}'), get_json_object('{"a": {"b": 2}}', '$.a.b'), json_tuple('{"a": 1, "b": "x"}', 'a', 'b');
SELECT from_csv('1,x', 'a INT, b STRING'), to_csv(struct(1, 'a,b', NULL)), from_xml('<r><a>1</a></r>', 'a INT'), to_xml(struct(1 AS a)), xpath('<a><b>1</b><b>2</b></a>', 'a/b/text()');
SELECT explode(map('a', 1, 'b', NULL)) AS (k, v);
SELECT posexplode(array('x', NULL)) AS (p, c);
SELECT inline(array(struct(1 AS a, 'x' AS b), struct(2 AS a, NULL AS b)));
SELECT stack(2, 1, 'a', 2, NULL) AS (i, s);
SELECT t.s.a, t.s.*, t.m['k'], t.l[0].x FROM (SELECT named_struct('a', 1, 'b', map('q', 2)) AS s, map('k', array(1)) AS m, array(named_struct('x', DATE'2020-01-01')) AS l) t;
SELECT array_sort(array('b', 'A', NULL, 'a')), array_min(array(2.5D, 1)), shuffle(array(1)), reverse(array('b', 'a')), array_union(array(1), array(2)), array_except(array(1, 2), array(2)), array_insert(array(1, 3), 2, 2), get(array(1), 5), array_position(array('a'), 'z'), arrays_overlap(array(1), array(1, NULL));
