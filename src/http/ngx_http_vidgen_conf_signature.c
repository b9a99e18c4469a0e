#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_conf_block.h"
#include "http/ngx_http_vidgen_conf_knob.h"


#define NGX_HTTP_VIDGEN_TOLERANCE     300    /* seconds */
#define NGX_HTTP_VIDGEN_SCHEME_KNOBS  9


typedef char *(*ngx_http_vidgen_signature_pt)(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);


static char *ngx_http_vidgen_signature_first(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *word);
static char *ngx_http_vidgen_signature_knob(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *text);
static char *ngx_http_vidgen_signature_algorithm(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_header(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_list(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_prefix(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_encoding(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_key(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_signed(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_timestamp(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_tolerance(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_event_id(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_jwks(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value);
static char *ngx_http_vidgen_signature_name(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *name);
static ngx_int_t ngx_http_vidgen_signature_word(ngx_conf_enum_t *words,
    ngx_str_t *value);


static const struct {
    const char                    *name;
    ngx_http_vidgen_signature_pt   set;
} ngx_http_vidgen_signature_knobs[] = {
    { "header=", ngx_http_vidgen_signature_header },
    { "list=", ngx_http_vidgen_signature_list },
    { "prefix=", ngx_http_vidgen_signature_prefix },
    { "encoding=", ngx_http_vidgen_signature_encoding },
    { "key=", ngx_http_vidgen_signature_key },
    { "signed=", ngx_http_vidgen_signature_signed },
    { "timestamp=", ngx_http_vidgen_signature_timestamp },
    { "tolerance=", ngx_http_vidgen_signature_tolerance },
    { "event_id=", ngx_http_vidgen_signature_event_id },
    { "jwks=", ngx_http_vidgen_signature_jwks },
    { "algorithm=", ngx_http_vidgen_signature_algorithm },
    { NULL, NULL }
};


/* whole schemes by a short name: the knobs that they stand for */
static const struct {
    const char  *name;
    const char  *knobs[NGX_HTTP_VIDGEN_SCHEME_KNOBS];
} ngx_http_vidgen_signature_schemes[] = {

    { "standard-webhooks",
      { "algorithm=hmac-sha256", "header=webhook-signature", "list=space",
        "prefix=v1,", "encoding=base64", "key=whsec",
        "signed=$http_webhook_id.$vidgen_timestamp.$vidgen_body",
        "timestamp=webhook-timestamp", "event_id=webhook-id" } },

    { "github",
      { "algorithm=hmac-sha256", "header=x-hub-signature-256",
        "prefix=sha256=", "event_id=x-github-delivery" } },

    { "stripe",
      { "algorithm=hmac-sha256", "header=stripe-signature", "list=,",
        "prefix=v1=", "timestamp=@t",
        "signed=$vidgen_timestamp.$vidgen_body" } },

    { NULL, { NULL } }
};


static ngx_conf_enum_t  ngx_http_vidgen_signature_algorithms[] = {
    { ngx_string("hmac-sha256"), NGX_VIDGEN_HMAC_SHA256 },
    { ngx_string("hmac-sha512"), NGX_VIDGEN_HMAC_SHA512 },
    { ngx_string("ed25519"), NGX_VIDGEN_ED25519 },
    { ngx_null_string, 0 }
};

static ngx_conf_enum_t  ngx_http_vidgen_signature_encodings[] = {
    { ngx_string("hex"), NGX_VIDGEN_ENCODING_HEX },
    { ngx_string("base64"), NGX_VIDGEN_ENCODING_BASE64 },
    { ngx_null_string, 0 }
};

static ngx_conf_enum_t  ngx_http_vidgen_signature_key_forms[] = {
    { ngx_string("raw"), NGX_VIDGEN_KEY_RAW },
    { ngx_string("hex"), NGX_VIDGEN_KEY_HEX },
    { ngx_string("base64"), NGX_VIDGEN_KEY_BASE64 },
    { ngx_string("whsec"), NGX_VIDGEN_KEY_WHSEC },
    { ngx_string("bare"), NGX_VIDGEN_KEY_BARE },
    { ngx_null_string, 0 }
};


char *
ngx_http_vidgen_conf_signature(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                     *rv;
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_vidgen_scheme_t      *scheme;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    scheme = &block->provider->webhook->scheme;
    value = cf->args->elts;

    if (block->signature_line) {
        return "is duplicate";
    }

    block->signature_line = cf->conf_file->line;
    scheme->tolerance = NGX_HTTP_VIDGEN_TOLERANCE;

    rv = ngx_http_vidgen_signature_first(cf, scheme, &value[1]);

    for (i = 2; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {

        if (scheme->token) {
            return "takes no parameters after \"token\"";
        }

        rv = ngx_http_vidgen_signature_knob(cf, scheme, &value[i]);
    }

    return rv;
}


/* an algorithm, a whole scheme, or token */

static char *
ngx_http_vidgen_signature_first(ngx_conf_t *cf, ngx_vidgen_scheme_t *scheme,
    ngx_str_t *word)
{
    char         *rv;
    ngx_str_t     text;
    ngx_uint_t    i, k;
    const char   *knob;

    if (ngx_strcmp(word->data, "token") == 0) {
        scheme->token = 1;
        return NGX_CONF_OK;
    }

    for (i = 0; ngx_http_vidgen_signature_schemes[i].name; i++) {

        if (ngx_strcmp(word->data, ngx_http_vidgen_signature_schemes[i].name)
            != 0)
        {
            continue;
        }

        for (k = 0; k < NGX_HTTP_VIDGEN_SCHEME_KNOBS; k++) {

            knob = ngx_http_vidgen_signature_schemes[i].knobs[k];
            if (knob == NULL) {
                break;
            }

            text.len = ngx_strlen(knob);
            text.data = (u_char *) knob;

            rv = ngx_http_vidgen_signature_knob(cf, scheme, &text);
            if (rv != NGX_CONF_OK) {
                return rv;
            }
        }

        return NGX_CONF_OK;
    }

    return ngx_http_vidgen_signature_algorithm(cf, scheme, word);
}


static char *
ngx_http_vidgen_signature_knob(ngx_conf_t *cf, ngx_vidgen_scheme_t *scheme,
    ngx_str_t *text)
{
    ngx_str_t    value;
    ngx_uint_t   i;
    const char  *name;

    for (i = 0; ngx_http_vidgen_signature_knobs[i].name; i++) {

        name = ngx_http_vidgen_signature_knobs[i].name;

        if (!ngx_http_vidgen_conf_knob(text, name, &value)) {
            continue;
        }

        if (value.len == 0) {
            return ngx_http_vidgen_conf_message(cf, "has an empty \"%V\"",
                                                text);
        }

        return ngx_http_vidgen_signature_knobs[i].set(cf, scheme, &value);
    }

    value = ngx_http_vidgen_conf_knob_name(text);

    return ngx_http_vidgen_conf_message(cf, "has an invalid parameter \"%V\"",
                                        &value);
}


static char *
ngx_http_vidgen_signature_algorithm(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_http_vidgen_signature_word(ngx_http_vidgen_signature_algorithms,
                                       value);
    if (n == NGX_ERROR) {
        return ngx_http_vidgen_conf_message(cf,
                   "has an unknown algorithm or scheme \"%V\"", value);
    }

    scheme->algorithm = n;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_vidgen_signature_word(ngx_conf_enum_t *words, ngx_str_t *value)
{
    ngx_uint_t  i;

    for (i = 0; words[i].name.len; i++) {
        if (ngx_vidgen_text_same(&words[i].name, value)) {
            return words[i].value;
        }
    }

    return NGX_ERROR;
}


static char *
ngx_http_vidgen_signature_header(ngx_conf_t *cf, ngx_vidgen_scheme_t *scheme,
    ngx_str_t *value)
{
    return ngx_http_vidgen_signature_name(cf, value, &scheme->header);
}


static char *
ngx_http_vidgen_signature_event_id(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value)
{
    return ngx_http_vidgen_signature_name(cf, value, &scheme->event_id);
}


static char *
ngx_http_vidgen_signature_timestamp(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value)
{
    ngx_str_null(&scheme->timestamp);
    ngx_str_null(&scheme->timestamp_element);

    if (value->data[0] != '@') {
        return ngx_http_vidgen_signature_name(cf, value, &scheme->timestamp);
    }

    if (value->len == 1) {
        return "has an empty element in \"timestamp=@\"";
    }

    scheme->timestamp_element.len = value->len - 1;
    scheme->timestamp_element.data = value->data + 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_signature_name(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *name)
{
    if (!ngx_vidgen_text_is_token(value)) {
        return ngx_http_vidgen_conf_message(cf,
                   "has an invalid header name \"%V\"", value);
    }

    name->len = value->len;
    name->data = ngx_pnalloc(cf->pool, value->len);
    if (name->data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_strlow(name->data, value->data, value->len);

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_signature_list(ngx_conf_t *cf, ngx_vidgen_scheme_t *scheme,
    ngx_str_t *value)
{
    if (value->len == 5 && ngx_strncmp(value->data, "space", 5) == 0) {
        scheme->list = ' ';
        return NGX_CONF_OK;
    }

    if (value->len != 1 || value->data[0] < 0x20) {
        return ngx_http_vidgen_conf_message(cf,
                   "has in \"list\" neither \"space\" nor one character: "
                   "\"%V\"", value);
    }

    scheme->list = value->data[0];

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_signature_prefix(ngx_conf_t *cf, ngx_vidgen_scheme_t *scheme,
    ngx_str_t *value)
{
    scheme->prefix = *value;

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_signature_encoding(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_http_vidgen_signature_word(ngx_http_vidgen_signature_encodings,
                                       value);
    if (n == NGX_ERROR) {
        return ngx_http_vidgen_conf_message(cf,
                   "has an unknown encoding \"%V\"", value);
    }

    scheme->encoding = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_signature_key(ngx_conf_t *cf, ngx_vidgen_scheme_t *scheme,
    ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_http_vidgen_signature_word(ngx_http_vidgen_signature_key_forms,
                                       value);
    if (n == NGX_ERROR) {

        /* it may be the key itself by mistake, so it is not shown */

        return "has in \"key\" none of raw, hex, base64, whsec and bare";
    }

    scheme->key_form = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_signature_signed(ngx_conf_t *cf, ngx_vidgen_scheme_t *scheme,
    ngx_str_t *value)
{
    return ngx_http_vidgen_conf_template(cf, value,
                                         NGX_VIDGEN_TEMPLATE_PLAIN, 0,
                                         &scheme->signed_text);
}


static char *
ngx_http_vidgen_signature_tolerance(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *value)
{
    time_t  t;

    t = ngx_parse_time(value, 1);

    if (t == (time_t) NGX_ERROR || t < 1 || t > NGX_MAX_INT32_VALUE) {
        return ngx_http_vidgen_conf_message(cf,
                   "has an invalid tolerance \"%V\"", value);
    }

    scheme->tolerance = t;

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_signature_jwks(ngx_conf_t *cf, ngx_vidgen_scheme_t *scheme,
    ngx_str_t *value)
{
    if (ngx_vidgen_url_origin(value) == 0 || !ngx_vidgen_url_is_clean(value)) {
        return ngx_http_vidgen_conf_message(cf,
                   "has an invalid URL \"%V\" in \"jwks\"", value);
    }

    scheme->jwks = *value;

    return NGX_CONF_OK;
}
