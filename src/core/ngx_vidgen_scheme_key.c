#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_scheme.h"
#include "base/ngx_vidgen_json.h"
#include "base/ngx_vidgen_text.h"


#define NGX_VIDGEN_KEYS_MAX  16          /* of a key set */


static ngx_int_t ngx_vidgen_scheme_key_bytes(ngx_vidgen_scheme_t *scheme,
    ngx_pool_t *pool, ngx_str_t *secret, ngx_str_t *bytes);
static void ngx_vidgen_scheme_strip(ngx_str_t *text, const char *prefix);
static ngx_int_t ngx_vidgen_scheme_push(ngx_pool_t *pool, ngx_array_t *keys,
    ngx_vidgen_algorithm_e algorithm, ngx_str_t *bytes);
static ngx_int_t ngx_vidgen_jwks_key(ngx_pool_t *pool,
    ngx_vidgen_json_t *json, ngx_uint_t i, ngx_array_t *keys);
static ngx_int_t ngx_vidgen_jwks_member(ngx_pool_t *pool,
    ngx_vidgen_json_t *json, ngx_uint_t i, const char *name,
    ngx_str_t *value);


ngx_int_t
ngx_vidgen_scheme_add_key(ngx_vidgen_scheme_t *scheme, ngx_pool_t *pool,
    ngx_str_t *secret)
{
    ngx_int_t  rc;
    ngx_str_t  bytes;

    rc = ngx_vidgen_scheme_key_bytes(scheme, pool, secret, &bytes);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_vidgen_scheme_push(pool, &scheme->keys, scheme->algorithm,
                                  &bytes);
}


static ngx_int_t
ngx_vidgen_scheme_key_bytes(ngx_vidgen_scheme_t *scheme, ngx_pool_t *pool,
    ngx_str_t *secret, ngx_str_t *bytes)
{
    ngx_str_t  text;

    text = *secret;

    if (scheme->key_form == NGX_VIDGEN_KEY_WHSEC
        || scheme->key_form == NGX_VIDGEN_KEY_BARE)
    {
        ngx_vidgen_scheme_strip(&text, "whsec_");
        ngx_vidgen_scheme_strip(&text, "whpk_");
    }

    if (scheme->key_form == NGX_VIDGEN_KEY_RAW
        || scheme->key_form == NGX_VIDGEN_KEY_BARE)
    {
        *bytes = text;
        return NGX_OK;
    }

    bytes->data = ngx_pnalloc(pool, text.len + 4);
    if (bytes->data == NULL) {
        return NGX_ERROR;
    }

    return scheme->key_form == NGX_VIDGEN_KEY_HEX
           ? ngx_vidgen_text_unhex(bytes, &text)
           : ngx_vidgen_text_unbase64(bytes, &text);
}


static void
ngx_vidgen_scheme_strip(ngx_str_t *text, const char *prefix)
{
    size_t  len;

    len = ngx_strlen(prefix);

    if (text->len >= len && ngx_strncmp(text->data, prefix, len) == 0) {
        text->data += len;
        text->len -= len;
    }
}


static ngx_int_t
ngx_vidgen_scheme_push(ngx_pool_t *pool, ngx_array_t *keys,
    ngx_vidgen_algorithm_e algorithm, ngx_str_t *bytes)
{
    ngx_vidgen_key_t  *key, **pushed;

    key = ngx_vidgen_key_create(pool, algorithm, bytes);
    if (key == NULL) {
        return NGX_DECLINED;
    }

    if (keys->elts == NULL
        && ngx_array_init(keys, pool, 2, sizeof(ngx_vidgen_key_t *))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    pushed = ngx_array_push(keys);
    if (pushed == NULL) {
        return NGX_ERROR;
    }

    *pushed = key;

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_scheme_load_jwks(ngx_pool_t *pool, ngx_str_t *text,
    ngx_array_t *keys, const char **reason)
{
    ngx_int_t           rc;
    ngx_uint_t          i, n;
    ngx_vidgen_json_t  *json;

    json = ngx_vidgen_json_parse(pool, text, NGX_VIDGEN_JSON_PROVIDER,
                                 reason);
    if (json == NULL) {
        return *reason ? NGX_DECLINED : NGX_ERROR;
    }

    n = 0;

    /* keys of other kinds are passed over, so the set may be longer */

    for (i = 0; i < 4 * NGX_VIDGEN_KEYS_MAX && n < NGX_VIDGEN_KEYS_MAX; i++) {

        rc = ngx_vidgen_jwks_key(pool, json, i, keys);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_OK) {
            n++;
        }
    }

    if (n == 0) {
        *reason = "the key set has no Ed25519 key";
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_jwks_key(ngx_pool_t *pool, ngx_vidgen_json_t *json, ngx_uint_t i,
    ngx_array_t *keys)
{
    u_char      bytes[64];
    ngx_int_t   rc;
    ngx_str_t   curve, x, key;

    rc = ngx_vidgen_jwks_member(pool, json, i, "crv", &curve);

    if (rc == NGX_OK) {
        rc = ngx_vidgen_jwks_member(pool, json, i, "x", &x);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (curve.len != 7 || ngx_strncmp(curve.data, "Ed25519", 7) != 0
        || ngx_base64_decoded_length(x.len) > sizeof(bytes))
    {
        return NGX_DECLINED;
    }

    key.data = bytes;

    if (ngx_vidgen_text_unbase64url(&key, &x) != NGX_OK) {
        return NGX_DECLINED;
    }

    return ngx_vidgen_scheme_push(pool, keys, NGX_VIDGEN_ED25519, &key);
}


static ngx_int_t
ngx_vidgen_jwks_member(ngx_pool_t *pool, ngx_vidgen_json_t *json,
    ngx_uint_t i, const char *name, ngx_str_t *value)
{
    u_char                buf[NGX_INT_T_LEN + 32];
    ngx_str_t             text;
    ngx_vidgen_pointer_t  pointer;

    text.data = buf;
    text.len = ngx_sprintf(buf, "/keys/%ui/%s", i, name) - buf;

    if (ngx_vidgen_pointer_compile(pool, &text, &pointer) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_vidgen_json_string(ngx_vidgen_json_get(json, &pointer), pool,
                                  value);
}
