{{ config(materialized='table') }}
select id, upper(name) as name, age from {{ ref('people') }} where age >= 18
