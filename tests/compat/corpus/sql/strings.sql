-- Text.
SELECT '', ' ', '  leading', 'trailing  ', 'tab\there', 'line\nfeed', 'return\rhere', 'quote\'s', 'double"quote', 'back\\slash', "double quoted", 'a''b';
SELECT 'käse', 'straße', 'Ελληνικά', 'русский', '中文', '日本語', 'العربية', 'עברית', '한국어';
SELECT '😀', '👨‍👩‍👧', '𝒳', 'e\u0301', '\U0001F600', char(8364), chr(65), '\u0000', 'a\0b', length('a\0b');
SELECT '\uFFFD', '\uFEFFbom', '\u200B', '\u0001\u0002\u001F\u007F', '\u0085\u00A0', '\u2028';
SELECT CAST(X'FF' AS STRING), CAST(X'C3' AS STRING), CAST(X'C328' AS STRING), CAST(X'61FF62' AS STRING), CAST(X'EDA080' AS STRING), CAST(X'F0288CBC' AS STRING), CAST(X'F8A1A1A1A0' AS STRING), CAST(X'C0AF' AS STRING), CAST(X'E28282' AS STRING);
SELECT CAST(X'E282' AS STRING), CAST(X'F09F98' AS STRING), CAST(X'F09F' AS STRING), CAST(X'F0' AS STRING), CAST(X'E2' AS STRING), CAST(X'E228A1' AS STRING), CAST(X'F4908080' AS STRING), CAST(X'80' AS STRING), CAST(X'FE61' AS STRING), CAST(X'E0809F' AS STRING), CAST(X'EDBFBF41' AS STRING), CAST(X'F0808080' AS STRING);
SELECT array(CAST(X'61FF62' AS STRING)), map(CAST(X'C3' AS STRING), CAST(X'FFFE' AS STRING)), struct(CAST(X'EDA080' AS STRING) AS s);
SELECT array(X'61FF62', X'E282', X'F09F98', X'EDA080', X'C0AF', X'80', X'00'), map(X'FF', X'FE'), struct(X'F0288CBC' AS b);
SELECT CAST(X'E0809F61EDA0' AS STRING), CAST(X'F5808080' AS STRING), CAST(X'EDA061' AS STRING), CAST(X'F48FBFBF' AS STRING), CAST(X'EFBFBD' AS STRING), CAST(X'61F09F9861' AS STRING), CAST(X'C380C3' AS STRING);
SELECT concat('a', CAST(X'FF' AS STRING)) AS x, length(CAST(X'FFFE' AS STRING)), hex(CAST(X'FFFE' AS STRING));
SELECT is_valid_utf8(CAST(X'FF' AS STRING)), make_valid_utf8(CAST(X'61FF62' AS STRING)), try_validate_utf8(CAST(X'FF' AS STRING));
SELECT validate_utf8(CAST(X'FF' AS STRING));
SELECT length('käse😀'), char_length('😀'), octet_length('käse😀'), bit_length('é'), upper('straße'), lower('ÄÖÜ'), initcap('hello wörld'), reverse('ab😀'), substring('ab😀cd', 3, 2), left('😀x', 1), right('x😀', 1);
SELECT concat('a', NULL), concat('a', 1, true, 1.5, DATE'2020-01-01'), concat_ws(',', 'a', NULL, 'b', array('c', 'd')), 'a' || 'b' || 1, repeat('ab', 3), space(3), lpad('x', 5, '😀'), rpad('x', 5, 'é'), trim('  a  '), btrim('xxaxx', 'x'), translate('abc', 'ab', 'x');
SELECT instr('käse', 's'), locate('b', 'abcb', 3), position('s' IN 'käse'), split_part('a.b.c', '.', 2), substring_index('a.b.c', '.', 2), regexp_replace('a1b2', '[0-9]', '😀'), regexp_extract('a12b', '(\\d+)', 1), regexp_extract_all('a1b22', '(\\d+)', 1), regexp_count('aXbX', 'X'), overlay('Spark' PLACING '_' FROM 3);
SELECT ascii('😀'), base64('käse'), unbase64('a8Okc2U='), encode('é', 'UTF-8'), encode('é', 'UTF-16'), decode(X'C3A9', 'UTF-8'), decode(X'00E9', 'UTF-16BE'), soundex('Robert'), levenshtein('kitten', 'sitting'), sentences('Hi there! Bye.'), find_in_set('b', 'a,b'), elt(2, 'a', 'b'), quote('it\'s');
SELECT decode(X'FF', 'UTF-8');
SELECT 'a' LIKE 'A', 'a' ILIKE 'A', 'a_b' LIKE 'a\\_b', 'abc' RLIKE '^a', 'a%b' LIKE 'a/%b' ESCAPE '/', 'abc' LIKE ANY ('a%', 'z'), startswith('abc', 'ab'), contains('abc', 'z'), endswith('abc', 'c');
SELECT r'raw\nstring', 'a' 'b', "it's", 'über' < 'z', 'a' < 'B', NULL || 'a';
SELECT parse_url('http://u:p@h:80/p?q=1#f', 'QUERY', 'q'), url_encode('a b&ä'), url_decode('a+b%26%C3%A4'), uuid() IS NOT NULL, length(uuid()), mask('AbC-12'), to_char(DATE'2020-01-02', 'yyyy'), luhn_check('79927398713'), randstr(5, 0);
-- Binary.
SELECT X'', X'00', X'0001FF', CAST('abc' AS BINARY), CAST('käse' AS BINARY), to_binary('4142', 'hex'), to_binary('YWI=', 'base64'), unhex('FF'), concat(X'01', X'02'), substring(X'010203', 2, 1), length(X'0102'), X'61' = CAST('a' AS BINARY);
SELECT to_binary('zz', 'hex');
SELECT hex(X'00FF'), base64(X'00FF'), CAST(X'4142' AS STRING), lpad(X'01', 3, X'00'), aes_encrypt(CAST('a' AS BINARY), CAST('0000111122223333' AS BINARY), 'ECB'), md5(X'00'), sha2(X'00', 224), crc32(X'00'), bitmap_count(X'FF');
SELECT IF(id % 2 = 0, NULL, unhex(lpad(hex(id), 2, '0'))) AS b FROM range(11) ORDER BY id;
-- Lengths declared.
SELECT CAST('abc' AS CHAR(5)), CAST('abc' AS VARCHAR(5)), CAST('abcdef' AS VARCHAR(3)), CAST('abcdef' AS CHAR(3)), length(CAST('a' AS CHAR(4))), CAST('😀é' AS CHAR(4));
SELECT array(CAST('a' AS CHAR(3))), struct(CAST('a' AS VARCHAR(3)) AS v), typeof(CAST('a' AS CHAR(3)));
-- Collations.
SELECT 'a' COLLATE UTF8_LCASE, 'a' COLLATE UNICODE, 'a' COLLATE UNICODE_CI, 'ä' COLLATE de, 'x' COLLATE UTF8_BINARY, collation('a' COLLATE UNICODE_AI);
SELECT 'a' COLLATE UTF8_LCASE = 'A', 'ä' COLLATE UNICODE_AI = 'a', 'a' COLLATE UNICODE_RTRIM = 'a  ', typeof('a' COLLATE UNICODE);
SELECT array('a' COLLATE UTF8_LCASE), map('k', 'v' COLLATE UNICODE), struct('a' COLLATE UTF8_LCASE AS c), CAST(NULL AS STRING) COLLATE UNICODE;
SELECT c, count(*) FROM VALUES ('a'), ('A'), ('b') AS t(c0) LATERAL VIEW explode(array(c0 COLLATE UTF8_LCASE)) x AS c GROUP BY c ORDER BY 2, 1;
SELECT c FROM (SELECT CAST(col AS STRING COLLATE UNICODE) AS c FROM VALUES ('b'), ('A'), (NULL), ('a'), ('"') AS t(col)) ORDER BY c;
SELECT 'a' COLLATE NO_SUCH;
SELECT 'a' COLLATE UTF8_LCASE = 'A' COLLATE UNICODE;
SELECT count(*) FROM collations();
