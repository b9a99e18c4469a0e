#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_id.h"
#include "base/ngx_vidgen_text.h"
#include "core/ngx_vidgen_provider.h"


#define NGX_VIDGEN_WORD_MAX   64
#define NGX_VIDGEN_ERROR_MAX  1024


static ngx_int_t ngx_vidgen_reading_text(ngx_array_t *pointers,
    ngx_vidgen_json_t *json, ngx_pool_t *pool, ngx_str_t *text);
static void ngx_vidgen_reading_unquote(ngx_vidgen_reading_t *reading,
    ngx_str_t *text);
static void ngx_vidgen_reading_tame(ngx_str_t *text, size_t max);
static void ngx_vidgen_reading_status(ngx_vidgen_reading_t *reading,
    ngx_vidgen_result_t *result);
static ngx_uint_t ngx_vidgen_condition_holds(
    ngx_vidgen_condition_t *condition, ngx_vidgen_json_t *json,
    ngx_pool_t *pool);


ngx_int_t
ngx_vidgen_provider_read(ngx_vidgen_reading_t *reading,
    ngx_vidgen_json_t *json, ngx_pool_t *pool, ngx_vidgen_result_t *result,
    const char **reason)
{
    u_char  bytes[16];

    ngx_memzero(result, sizeof(ngx_vidgen_result_t));

    if (ngx_vidgen_reading_text(&reading->job_id, json, pool,
                                &result->job_id)
        != NGX_OK
        || ngx_vidgen_reading_text(&reading->attempt, json, pool,
                                   &result->attempt)
           != NGX_OK
        || ngx_vidgen_reading_text(&reading->status, json, pool,
                                   &result->word)
           != NGX_OK
        || ngx_vidgen_reading_text(&reading->video_url, json, pool,
                                   &result->video_url)
           != NGX_OK
        || ngx_vidgen_reading_text(&reading->error, json, pool,
                                   &result->error)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_vidgen_reading_status(reading, result);
    ngx_vidgen_reading_unquote(reading, &result->error);
    ngx_vidgen_reading_tame(&result->word, NGX_VIDGEN_WORD_MAX);
    ngx_vidgen_reading_tame(&result->error, NGX_VIDGEN_ERROR_MAX);

    if (result->job_id.len > NGX_VIDGEN_PROVIDER_JOB_ID_MAX
        || ngx_vidgen_text_has_control(&result->job_id))
    {
        *reason = "the job id is too long or has control characters";
        return NGX_DECLINED;
    }

    if (result->video_url.len > NGX_VIDGEN_URL_MAX
        || ngx_vidgen_text_has_control(&result->video_url))
    {
        *reason = "the video URL is too long or has control characters";
        return NGX_DECLINED;
    }

    if (ngx_vidgen_uuid_parse(&result->attempt, bytes) != NGX_OK) {
        ngx_str_null(&result->attempt);
    }

    return NGX_OK;
}


/* the first that is there; text stays empty if none is */

static ngx_int_t
ngx_vidgen_reading_text(ngx_array_t *pointers, ngx_vidgen_json_t *json,
    ngx_pool_t *pool, ngx_str_t *text)
{
    ngx_int_t              rc;
    ngx_uint_t             i;
    ngx_vidgen_pointer_t  *pointer;

    pointer = pointers->elts;

    for (i = 0; i < pointers->nelts; i++) {

        rc = ngx_vidgen_json_text(ngx_vidgen_json_get(json, &pointer[i]),
                                  pool, text);
        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_OK && text->len > 0) {
            return NGX_OK;
        }
    }

    ngx_str_null(text);

    return NGX_OK;
}


/* one that repeats its credential is not quoted; while the text is whole */
static void
ngx_vidgen_reading_unquote(ngx_vidgen_reading_t *reading, ngx_str_t *text)
{
    ngx_str_t  *key;

    key = reading->api_key;

    if (key && key->len && text->len
        && memmem(text->data, text->len, key->data, key->len))
    {
        ngx_str_null(text);
    }
}


static void
ngx_vidgen_reading_tame(ngx_str_t *text, size_t max)
{
    size_t  i;

    if (text->len > max) {

        /* not in the middle of a character */

        while (max > 0 && (text->data[max] & 0xc0) == 0x80) {
            max--;
        }

        text->len = max;
    }

    for (i = 0; i < text->len; i++) {
        if (text->data[i] < 0x20 || text->data[i] == 0x7f) {
            text->data[i] = ' ';
        }
    }
}


static void
ngx_vidgen_reading_status(ngx_vidgen_reading_t *reading,
    ngx_vidgen_result_t *result)
{
    ngx_str_t                *word;
    ngx_uint_t                i;
    ngx_vidgen_word_t        *map;
    ngx_vidgen_status_e       other;

    result->status = reading->fixed_status;
    word = &result->word;

    if (word->len == 0) {
        return;
    }

    other = NGX_VIDGEN_STATUS_NONE;
    map = reading->words.elts;

    for (i = 0; i < reading->words.nelts; i++) {

        if (map[i].word.len == 1 && map[i].word.data[0] == '*') {
            other = map[i].status;

        } else if (ngx_vidgen_text_same(&map[i].word, word)) {
            result->status = map[i].status;
            return;
        }
    }

    result->status = ngx_vidgen_status_find(word);

    if (result->status == NGX_VIDGEN_STATUS_NONE) {
        result->status = other;
        result->wildcard = (other != NGX_VIDGEN_STATUS_NONE);
    }
}


ngx_uint_t
ngx_vidgen_provider_condition(ngx_array_t *conditions,
    ngx_vidgen_json_t *json, ngx_pool_t *pool)
{
    ngx_uint_t               i;
    ngx_vidgen_condition_t  *condition;

    condition = conditions->elts;

    for (i = 0; i < conditions->nelts; i++) {
        if (ngx_vidgen_condition_holds(&condition[i], json, pool)) {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_vidgen_provider_accepted(ngx_array_t *conditions,
    ngx_vidgen_json_t *json, ngx_pool_t *pool)
{
    ngx_uint_t               i;
    ngx_vidgen_condition_t  *condition;

    condition = conditions->elts;

    for (i = 0; i < conditions->nelts; i++) {
        if (!ngx_vidgen_condition_holds(&condition[i], json, pool)) {
            return 0;
        }
    }

    return 1;
}


static ngx_uint_t
ngx_vidgen_condition_holds(ngx_vidgen_condition_t *condition,
    ngx_vidgen_json_t *json, ngx_pool_t *pool)
{
    ngx_str_t            text, *value;
    ngx_uint_t           i;
    ngx_vidgen_json_t   *found;

    found = ngx_vidgen_json_get(json, &condition->pointer);

    if (condition->values.nelts == 0) {
        return ngx_vidgen_json_is_set(found);
    }

    if (ngx_vidgen_json_text(found, pool, &text) != NGX_OK) {
        return 0;
    }

    value = condition->values.elts;

    for (i = 0; i < condition->values.nelts; i++) {
        if (ngx_vidgen_text_same(&value[i], &text)) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_vidgen_provider_keep(ngx_array_t *keep, ngx_vidgen_json_t *json,
    ngx_pool_t *pool, ngx_array_t *pairs)
{
    ngx_int_t           rc;
    ngx_str_t           text;
    ngx_uint_t          i;
    ngx_vidgen_keep_t  *field;
    ngx_vidgen_pair_t  *pair;

    field = keep->elts;

    for (i = 0; i < keep->nelts; i++) {

        rc = ngx_vidgen_json_text(
                             ngx_vidgen_json_get(json, &field[i].pointer),
                             pool, &text);
        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_DECLINED || text.len == 0
            || text.len > NGX_VIDGEN_URL_MAX
            || ngx_vidgen_text_has_control(&text))
        {
            continue;
        }

        pair = ngx_array_push(pairs);
        if (pair == NULL) {
            return NGX_ERROR;
        }

        pair->name = field[i].name;
        pair->value = text;
    }

    return NGX_OK;
}
