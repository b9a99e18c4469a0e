#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_id.h"
#include "base/ngx_vidgen_json.h"
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_input.h"
#include "http/ngx_http_vidgen_request.h"


#define NGX_HTTP_VIDGEN_KEY_MAX       255
#define NGX_HTTP_VIDGEN_DURATION_MAX  3600


typedef ngx_uint_t (*ngx_http_vidgen_input_check_pt)(ngx_str_t *value);


typedef struct {
    ngx_str_t                        pointer;
    size_t                           offset;     /* in the input */
    size_t                           max;        /* bytes */
    ngx_http_vidgen_input_check_pt   check;
    ngx_uint_t                       required;
    ngx_str_t                        missing;    /* the default */
    ngx_str_t                        error;
} ngx_http_vidgen_input_field_t;


static ngx_int_t ngx_http_vidgen_input_parse(ngx_http_request_t *r,
    ngx_pool_t *pool, ngx_vidgen_json_t **json,
    ngx_http_vidgen_error_e *error, ngx_str_t *detail);
static ngx_int_t ngx_http_vidgen_input_field(ngx_pool_t *pool,
    ngx_vidgen_json_t *json, ngx_http_vidgen_input_field_t *field,
    ngx_str_t *value);
static ngx_int_t ngx_http_vidgen_input_duration(ngx_pool_t *pool,
    ngx_vidgen_json_t *json, ngx_str_t *value);
static ngx_int_t ngx_http_vidgen_input_user(ngx_http_request_t *r,
    ngx_pool_t *pool, ngx_http_vidgen_input_t *input,
    ngx_http_vidgen_error_e *error);
static ngx_int_t ngx_http_vidgen_input_key(ngx_http_request_t *r,
    ngx_pool_t *pool, ngx_http_vidgen_input_t *input);
static ngx_int_t ngx_http_vidgen_input_find_key(ngx_http_request_t *r,
    ngx_str_t *key);
static ngx_int_t ngx_http_vidgen_input_digest(ngx_pool_t *pool,
    ngx_str_t *values, ngx_uint_t n, ngx_str_t *hex);
static ngx_vidgen_json_t *ngx_http_vidgen_input_get(ngx_pool_t *pool,
    ngx_vidgen_json_t *json, ngx_str_t *pointer);
static ngx_uint_t ngx_http_vidgen_input_is_uuid(ngx_str_t *value);
static ngx_uint_t ngx_http_vidgen_input_is_line(ngx_str_t *value);
static ngx_uint_t ngx_http_vidgen_input_is_text(ngx_str_t *value);
static ngx_uint_t ngx_http_vidgen_input_is_ratio(ngx_str_t *value);


#define ngx_http_vidgen_input_offset(name)                                    \
    offsetof(ngx_http_vidgen_input_t, name)


static ngx_http_vidgen_input_field_t  ngx_http_vidgen_input_fields[] = {

    { ngx_string("/user_id"), ngx_http_vidgen_input_offset(user),
      NGX_VIDGEN_UUID_LEN, ngx_http_vidgen_input_is_uuid, 0,
      ngx_null_string, ngx_string("user_id must be a UUID") },

    { ngx_string("/model_id"), ngx_http_vidgen_input_offset(model),
      255, ngx_http_vidgen_input_is_line, 1, ngx_null_string,
      ngx_string("model_id must be a text of 1 to 255 bytes") },

    { ngx_string("/prompt"), ngx_http_vidgen_input_offset(prompt),
      16384, ngx_http_vidgen_input_is_text, 1, ngx_null_string,
      ngx_string("prompt must be a text of 1 to 16384 bytes") },

    { ngx_string("/aspect_ratio"), ngx_http_vidgen_input_offset(aspect_ratio),
      16, ngx_http_vidgen_input_is_ratio, 0, ngx_string("16:9"),
      ngx_string("aspect_ratio must be like \"16:9\"") },

    { ngx_string("/provider"), ngx_http_vidgen_input_offset(provider),
      NGX_VIDGEN_PROVIDER_NAME_MAX, ngx_http_vidgen_input_is_line, 0,
      ngx_null_string, ngx_string("provider must be a provider's name") },

    { ngx_null_string, 0, 0, NULL, 0, ngx_null_string, ngx_null_string }
};


ngx_int_t
ngx_http_vidgen_input_read(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_http_vidgen_input_t *input, ngx_http_vidgen_error_e *error,
    ngx_str_t *detail)
{
    ngx_int_t                       rc;
    ngx_str_t                      *value;
    ngx_vidgen_json_t              *json;
    ngx_http_vidgen_input_field_t  *field;

    rc = ngx_http_vidgen_input_parse(r, pool, &json, error, detail);
    if (rc != NGX_OK) {
        return rc;
    }

    *error = NGX_HTTP_VIDGEN_BAD_FIELD;

    for (field = ngx_http_vidgen_input_fields; field->pointer.len; field++) {

        value = (ngx_str_t *) ((u_char *) input + field->offset);

        rc = ngx_http_vidgen_input_field(pool, json, field, value);
        if (rc != NGX_OK) {
            *detail = field->error;
            return rc;
        }
    }

    rc = ngx_http_vidgen_input_duration(pool, json, &input->duration);
    if (rc != NGX_OK) {
        ngx_str_set(detail, "duration must be an integer from 1 to 3600");
        return rc;
    }

    rc = ngx_http_vidgen_input_user(r, pool, input, error);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_vidgen_input_key(r, pool, input);
    if (rc == NGX_DECLINED) {
        *error = NGX_HTTP_VIDGEN_BAD_IDEMPOTENCY_KEY;
    }

    return rc;
}


static ngx_int_t
ngx_http_vidgen_input_parse(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_vidgen_json_t **json, ngx_http_vidgen_error_e *error,
    ngx_str_t *detail)
{
    ngx_str_t    body;
    const char  *reason;

    if (ngx_http_vidgen_request_body(r, &body) != NGX_OK) {
        return NGX_ERROR;
    }

    *json = ngx_vidgen_json_parse(pool, &body, NGX_VIDGEN_JSON_CLIENT,
                                  &reason);
    if (*json == NULL) {
        if (reason == NULL) {
            return NGX_ERROR;
        }

        *error = NGX_HTTP_VIDGEN_BAD_JSON;
        detail->data = (u_char *) reason;
        detail->len = ngx_strlen(reason);
        return NGX_DECLINED;
    }

    if (!ngx_vidgen_json_is_object(*json)) {
        *error = NGX_HTTP_VIDGEN_NOT_AN_OBJECT;
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_input_field(ngx_pool_t *pool, ngx_vidgen_json_t *json,
    ngx_http_vidgen_input_field_t *field, ngx_str_t *value)
{
    ngx_int_t           rc;
    ngx_vidgen_json_t  *member;

    member = ngx_http_vidgen_input_get(pool, json, &field->pointer);

    if (member == NULL && !field->required) {
        *value = field->missing;
        return NGX_OK;
    }

    rc = ngx_vidgen_json_string(member, pool, value);
    if (rc != NGX_OK) {
        return rc;
    }

    if (value->len == 0 || value->len > field->max || !field->check(value)) {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_input_duration(ngx_pool_t *pool, ngx_vidgen_json_t *json,
    ngx_str_t *value)
{
    int64_t             n;
    ngx_vidgen_json_t  *member;

    static ngx_str_t  missing = ngx_string("5");
    static ngx_str_t  pointer = ngx_string("/duration");

    member = ngx_http_vidgen_input_get(pool, json, &pointer);

    if (member == NULL) {
        *value = missing;
        return NGX_OK;
    }

    if (ngx_vidgen_json_integer(member, &n) != NGX_OK
        || n < 1 || n > NGX_HTTP_VIDGEN_DURATION_MAX)
    {
        return NGX_DECLINED;
    }

    return ngx_vidgen_text_number(pool, value, n);
}


/* the trusted identity, where there is one, else what the body says */
static ngx_int_t
ngx_http_vidgen_input_user(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_http_vidgen_input_t *input, ngx_http_vidgen_error_e *error)
{
    u_char                       said[16], known[16];
    ngx_str_t                    user;
    ngx_http_vidgen_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_vidgen_module);

    if (lcf->user_id) {

        if (ngx_http_complex_value(r, lcf->user_id, &user) != NGX_OK) {
            return NGX_ERROR;
        }

        *error = NGX_HTTP_VIDGEN_WRONG_USER;

        if (ngx_vidgen_uuid_parse(&user, known) != NGX_OK) {
            return NGX_DECLINED;
        }

        if (input->user.len
            && (ngx_vidgen_uuid_parse(&input->user, said) != NGX_OK
                || ngx_memcmp(said, known, sizeof(known)) != 0))
        {
            return NGX_DECLINED;
        }

    } else if (ngx_vidgen_uuid_parse(&input->user, known) != NGX_OK) {
        *error = NGX_HTTP_VIDGEN_BAD_FIELD;
        return NGX_DECLINED;
    }

    input->user.data = ngx_pnalloc(pool, NGX_VIDGEN_UUID_LEN);
    if (input->user.data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_vidgen_uuid_print(input->user.data, known);
    input->user.len = NGX_VIDGEN_UUID_LEN;

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_input_key(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_http_vidgen_input_t *input)
{
    ngx_int_t                     rc;
    ngx_str_t                     key, values[6];
    ngx_http_vidgen_main_conf_t  *mcf;

    rc = ngx_http_vidgen_input_find_key(r, &key);
    if (rc != NGX_OK) {
        return rc;
    }

    if (key.len == 0) {
        mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);
        return mcf->idempotency_required ? NGX_DECLINED : NGX_OK;
    }

    values[0] = input->user;
    values[1] = key;

    if (ngx_http_vidgen_input_digest(pool, values, 2, &input->key) != NGX_OK) {
        return NGX_ERROR;
    }

    values[1] = input->model;
    values[2] = input->prompt;
    values[3] = input->duration;
    values[4] = input->aspect_ratio;
    values[5] = input->provider;

    return ngx_http_vidgen_input_digest(pool, values, 6, &input->fingerprint);
}


/*
 * The key without the quotes of the header's structured form; k and "k" are
 * one.  NGX_DECLINED: malformed, or there is more than one.
 */
static ngx_int_t
ngx_http_vidgen_input_find_key(ngx_http_request_t *r, ngx_str_t *key)
{
    size_t            i;
    ngx_table_elt_t  *header;

    static ngx_str_t  name = ngx_string("idempotency-key");

    ngx_str_null(key);

    header = ngx_http_vidgen_header(&r->headers_in.headers, &name, 0);
    if (header == NULL) {
        return NGX_OK;
    }

    if (ngx_http_vidgen_header(&r->headers_in.headers, &name, 1)) {
        return NGX_DECLINED;
    }

    *key = header->value;

    if (key->len > 1 && key->data[0] == '"' && key->data[key->len - 1] == '"')
    {
        key->data++;
        key->len -= 2;
    }

    if (key->len == 0 || key->len > NGX_HTTP_VIDGEN_KEY_MAX) {
        return NGX_DECLINED;
    }

    for (i = 0; i < key->len; i++) {
        if (key->data[i] < 0x20 || key->data[i] > 0x7e) {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


/* values as netstrings, so that no two lists of them look alike */
static ngx_int_t
ngx_http_vidgen_input_digest(ngx_pool_t *pool, ngx_str_t *values, ngx_uint_t n,
    ngx_str_t *hex)
{
    u_char      digest[NGX_VIDGEN_SHA256_LEN], lengths[6][NGX_SIZE_T_LEN + 1];
    ngx_str_t   pieces[12];
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        pieces[2 * i].data = lengths[i];
        pieces[2 * i].len = ngx_sprintf(lengths[i], "%uz:", values[i].len)
                            - lengths[i];
        pieces[2 * i + 1] = values[i];
    }

    if (ngx_vidgen_sha256(pieces, 2 * n, digest) != NGX_OK) {
        return NGX_ERROR;
    }

    hex->data = ngx_pnalloc(pool, NGX_HTTP_VIDGEN_HEX_LEN);
    if (hex->data == NULL) {
        return NGX_ERROR;
    }

    hex->len = ngx_hex_dump(hex->data, digest, NGX_VIDGEN_SHA256_LEN)
               - hex->data;

    return NGX_OK;
}


static ngx_vidgen_json_t *
ngx_http_vidgen_input_get(ngx_pool_t *pool, ngx_vidgen_json_t *json,
    ngx_str_t *text)
{
    ngx_vidgen_pointer_t  pointer;

    if (ngx_vidgen_pointer_compile(pool, text, &pointer) != NGX_OK) {
        return NULL;
    }

    return ngx_vidgen_json_get(json, &pointer);
}


static ngx_uint_t
ngx_http_vidgen_input_is_uuid(ngx_str_t *value)
{
    u_char  bytes[16];

    return ngx_vidgen_uuid_parse(value, bytes) == NGX_OK;
}


/* what may enter a header or a URL */
static ngx_uint_t
ngx_http_vidgen_input_is_line(ngx_str_t *value)
{
    return !ngx_vidgen_text_has_control(value);
}


static ngx_uint_t
ngx_http_vidgen_input_is_text(ngx_str_t *value)
{
    size_t  i;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < 0x20
            && value->data[i] != '\t'
            && value->data[i] != LF
            && value->data[i] != CR)
        {
            return 0;
        }
    }

    return 1;
}


static ngx_uint_t
ngx_http_vidgen_input_is_ratio(ngx_str_t *value)
{
    size_t      i;
    ngx_uint_t  digits, colons;

    digits = 0;
    colons = 0;

    for (i = 0; i < value->len; i++) {

        if (value->data[i] >= '0' && value->data[i] <= '9') {
            digits++;
            continue;
        }

        if (value->data[i] != ':' || digits == 0 || colons) {
            return 0;
        }

        colons = 1;
        digits = 0;
    }

    return colons && digits;
}
