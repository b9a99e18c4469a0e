#include <ngx_config.h>
#include <ngx_core.h>
#include <jansson.h>
#include "base/ngx_vidgen_json.h"


#define NGX_VIDGEN_JSON_CLIENT_DEPTH    32
#define NGX_VIDGEN_JSON_PROVIDER_DEPTH  512
#define NGX_VIDGEN_JSON_STRICT   (JSON_DECODE_ANY|JSON_REJECT_DUPLICATES)
#define NGX_VIDGEN_JSON_LENIENT  (JSON_DECODE_ANY|JSON_ALLOW_NUL)

#define NGX_VIDGEN_JSON_NUMBER_LEN      320    /* the longest double, written
                                                  without an exponent */


static const char *ngx_vidgen_json_scan(ngx_str_t *text, ngx_uint_t max);
static json_t *ngx_vidgen_json_lenient(ngx_str_t *text, json_error_t *error);
static void ngx_vidgen_json_drop_nul(u_char *text, size_t len);
static u_char *ngx_vidgen_json_quote_big(u_char *dst, ngx_str_t *text);
static ngx_uint_t ngx_vidgen_json_is_big(u_char *digits, size_t len);
static const char *ngx_vidgen_json_reason(json_error_t *error);
static size_t ngx_vidgen_json_real(u_char *text, double value);
static void ngx_vidgen_json_cleanup(void *data);


ngx_vidgen_json_t *
ngx_vidgen_json_parse(ngx_pool_t *pool, ngx_str_t *text,
    ngx_vidgen_json_mode_e mode, const char **reason)
{
    json_t              *json;
    json_error_t         error;
    ngx_pool_cleanup_t  *cln;

    *reason = ngx_vidgen_json_scan(text, mode == NGX_VIDGEN_JSON_CLIENT
                                         ? NGX_VIDGEN_JSON_CLIENT_DEPTH
                                         : NGX_VIDGEN_JSON_PROVIDER_DEPTH);
    if (*reason) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    json = json_loadb((char *) text->data, text->len,
                      mode == NGX_VIDGEN_JSON_CLIENT
                      ? NGX_VIDGEN_JSON_STRICT : NGX_VIDGEN_JSON_LENIENT,
                      &error);

    if (json == NULL && mode == NGX_VIDGEN_JSON_PROVIDER) {
        json = ngx_vidgen_json_lenient(text, &error);
    }

    if (json == NULL) {
        *reason = ngx_vidgen_json_reason(&error);
        return NULL;
    }

    cln->handler = ngx_vidgen_json_cleanup;
    cln->data = json;

    return json;
}


/* jansson recurses 2048 deep before it refuses: count before it starts */

static const char *
ngx_vidgen_json_scan(ngx_str_t *text, ngx_uint_t max)
{
    u_char      *p, *last;
    ngx_uint_t   depth, quoted;

    if (text->len == 0) {
        return "the JSON text is empty";
    }

    depth = 0;
    quoted = 0;
    last = text->data + text->len;

    for (p = text->data; p < last; p++) {

        switch (*p) {

        case '\0':
            return "the JSON text has a NUL byte";

        case '"':
            quoted = !quoted;
            break;

        case '\\':
            if (quoted) {
                p++;
            }
            break;

        case '{':
        case '[':
            if (!quoted && ++depth > max) {
                return "the JSON text is nested too deeply";
            }
            break;

        case '}':
        case ']':
            if (!quoted && depth) {
                depth--;
            }
            break;
        }
    }

    return NULL;
}


/*
 * Providers may send what jansson refuses though we do not read it: integers
 * over 2^63 and a \u0000 in a name.  The former become strings, which keeps
 * every digit of an id, once it is known that the text is valid otherwise.
 */

static json_t *
ngx_vidgen_json_lenient(ngx_str_t *text, json_error_t *error)
{
    u_char     *copy, *last;
    json_t     *json;
    ngx_str_t   plain;

    if (json_error_code(error) != json_error_numeric_overflow
        && json_error_code(error) != json_error_null_byte_in_key)
    {
        return NULL;
    }

    /* a quoted number has 19 bytes or more, so 2 more are no doubling */

    copy = ngx_alloc(3 * text->len, ngx_cycle->log);
    if (copy == NULL) {
        return NULL;
    }

    plain.len = text->len;
    plain.data = copy + 2 * text->len;
    ngx_memcpy(plain.data, text->data, text->len);

    json = json_loadb((char *) plain.data, plain.len,
                      NGX_VIDGEN_JSON_LENIENT|JSON_DECODE_INT_AS_REAL, error);

    if (json == NULL
        && json_error_code(error) == json_error_null_byte_in_key)
    {
        ngx_vidgen_json_drop_nul(plain.data, plain.len);

        json = json_loadb((char *) plain.data, plain.len,
                          NGX_VIDGEN_JSON_LENIENT|JSON_DECODE_INT_AS_REAL,
                          error);
    }

    if (json) {
        json_decref(json);

        last = ngx_vidgen_json_quote_big(copy, &plain);
        json = json_loadb((char *) copy, last - copy, NGX_VIDGEN_JSON_LENIENT,
                          error);
    }

    ngx_free(copy);

    return json;
}


/* makes each \u0000 a \ufffd, the replacement character */

static void
ngx_vidgen_json_drop_nul(u_char *text, size_t len)
{
    u_char  *p, *last;

    last = text + len;

    for (p = text; p < last; p++) {

        if (*p != '\\') {
            continue;
        }

        p++;

        if (last - p >= 5 && ngx_strncmp(p, "u0000", 5) == 0) {
            ngx_memcpy(p, "ufffd", 5);
        }
    }
}


static u_char *
ngx_vidgen_json_quote_big(u_char *dst, ngx_str_t *text)
{
    u_char      *p, *start, *last;
    ngx_uint_t   big, quoted;

    quoted = 0;
    p = text->data;
    last = text->data + text->len;

    while (p < last) {

        if (quoted || *p == '"') {
            quoted ^= (*p == '"');

            if (*p == '\\') {
                *dst++ = *p++;
            }

            *dst++ = *p++;
            continue;
        }

        start = p;

        while (p < last && ((*p >= '0' && *p <= '9') || *p == '-'
                            || *p == '+' || *p == '.' || *p == 'e'
                            || *p == 'E'))
        {
            p++;
        }

        if (p == start) {
            *dst++ = *p++;
            continue;
        }

        big = ngx_vidgen_json_is_big(start, p - start);

        if (big) {
            *dst++ = '"';
        }

        dst = ngx_cpymem(dst, start, p - start);

        if (big) {
            *dst++ = '"';
        }
    }

    return dst;
}


static ngx_uint_t
ngx_vidgen_json_is_big(u_char *digits, size_t len)
{
    size_t       i;
    const char  *most;

    most = "9223372036854775807";

    if (*digits == '-') {
        most = "9223372036854775808";
        digits++;
        len--;
    }

    for (i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9') {
            return 0;
        }
    }

    return len > 19 || (len == 19 && ngx_memcmp(digits, most, 19) > 0);
}


/* jansson's own texts quote the input, so they are not for the log */

static const char *
ngx_vidgen_json_reason(json_error_t *error)
{
    switch (json_error_code(error)) {

    case json_error_out_of_memory:
        return NULL;

    case json_error_duplicate_key:
        return "the JSON text has a duplicate name";

    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "the JSON text has a NUL character";

    case json_error_numeric_overflow:
        return "the JSON text has a number out of range";

    case json_error_invalid_utf8:
        return "the JSON text is not UTF-8";

    case json_error_end_of_input_expected:
        return "the JSON text is followed by something else";

    case json_error_premature_end_of_input:
        return "the JSON text is incomplete";

    default:
        return "the JSON text is malformed";
    }
}


ngx_uint_t
ngx_vidgen_json_is_object(ngx_vidgen_json_t *json)
{
    return json_is_object(json);
}


ngx_uint_t
ngx_vidgen_json_is_set(ngx_vidgen_json_t *json)
{
    return json != NULL && !json_is_null(json);
}


ngx_int_t
ngx_vidgen_json_text(ngx_vidgen_json_t *json, ngx_pool_t *pool,
    ngx_str_t *text)
{
    u_char  *p, number[NGX_VIDGEN_JSON_NUMBER_LEN];

    if (json == NULL) {
        return NGX_DECLINED;
    }

    switch (json_typeof(json)) {

    case JSON_STRING:
        return ngx_vidgen_json_string(json, pool, text);

    case JSON_INTEGER:
        text->len = snprintf((char *) number, sizeof(number), "%lld",
                             (long long) json_integer_value(json));
        break;

    case JSON_REAL:
        text->len = ngx_vidgen_json_real(number, json_real_value(json));
        break;

    case JSON_TRUE:
        ngx_str_set(text, "true");
        return NGX_OK;

    case JSON_FALSE:
        ngx_str_set(text, "false");
        return NGX_OK;

    default:
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(pool, text->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, number, text->len);
    text->data = p;

    return NGX_OK;
}


/* the shortest text that reads as the same number */

static size_t
ngx_vidgen_json_real(u_char *text, double value)
{
    int  len, digits;

    /* over 2^53 there are no fractions */

    if (value > 9e15 || value < -9e15 || value == (double) (int64_t) value) {
        return snprintf((char *) text, NGX_VIDGEN_JSON_NUMBER_LEN, "%.0f",
                        value == 0.0 ? 0.0 : value);
    }

    digits = 15;

    do {
        len = snprintf((char *) text, NGX_VIDGEN_JSON_NUMBER_LEN, "%.*g",
                       digits, value);
    } while (++digits <= 17 && strtod((char *) text, NULL) != value);

    return len;
}


ngx_int_t
ngx_vidgen_json_string(ngx_vidgen_json_t *json, ngx_pool_t *pool,
    ngx_str_t *text)
{
    if (!json_is_string(json)) {
        return NGX_DECLINED;
    }

    text->len = json_string_length(json);
    text->data = ngx_pnalloc(pool, text->len + 1);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(text->data, json_string_value(json), text->len + 1);

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_json_integer(ngx_vidgen_json_t *json, int64_t *value)
{
    if (!json_is_integer(json)) {
        return NGX_DECLINED;
    }

    *value = json_integer_value(json);

    return NGX_OK;
}


static void
ngx_vidgen_json_cleanup(void *data)
{
    json_decref(data);
}
