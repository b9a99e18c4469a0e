#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_secret.h"
#include "http/ngx_http_vidgen_conf_block.h"


static char *ngx_http_vidgen_conf_signature_missing(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_vidgen_scheme_t *scheme);
static ngx_int_t ngx_http_vidgen_conf_signature_event_id(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme);
static ngx_uint_t ngx_http_vidgen_conf_uses_variable(ngx_str_t *text,
    ngx_str_t *name);
static char *ngx_http_vidgen_conf_signature_keys(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_vidgen_scheme_t *scheme);


char *
ngx_http_vidgen_conf_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_int_t                 rc;
    ngx_str_t                *value, *secret, text;
    ngx_uint_t                i;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);
    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        rc = ngx_vidgen_secret_read(cf, &value[i], &text);

        if (rc == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DECLINED && block->secrets.nelts == 0) {
            return ngx_http_vidgen_conf_message(cf,
                       "is missing: \"%V\" is not set or empty", &value[i]);
        }

        if (rc == NGX_DECLINED) {
            ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                               "vidgen: secret \"%V\" of provider \"%V\" is "
                               "not set, skipped",
                               &value[i], &block->provider->name);
            continue;
        }

        secret = ngx_http_vidgen_conf_push(cf, &block->secrets,
                                           sizeof(ngx_str_t));
        if (secret == NULL) {
            return NGX_CONF_ERROR;
        }

        *secret = text;
    }

    block->secret_line = cf->conf_file->line;

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_challenge(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t             *value;
    ngx_vidgen_webhook_t  *webhook;

    value = cf->args->elts;
    webhook = ngx_http_vidgen_conf_block(cf)->provider->webhook;

    if (webhook->challenge) {
        return "is duplicate";
    }

    webhook->challenge = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_pointer_t));
    if (webhook->challenge == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_vidgen_conf_pointer(cf, &value[1], webhook->challenge);
}


char *
ngx_http_vidgen_conf_options(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                  *rv;
    ngx_str_t             *value;
    ngx_vidgen_webhook_t  *webhook;

    value = cf->args->elts;
    webhook = ngx_http_vidgen_conf_block(cf)->provider->webhook;

    if (webhook->options) {
        return "is duplicate";
    }

    rv = ngx_http_vidgen_conf_code(cf, &value[1], &webhook->options);

    if (rv == NGX_CONF_OK
        && (webhook->options < 200 || webhook->options > 299))
    {
        return "must be a status from 200 to 299";
    }

    return rv;
}


char *
ngx_http_vidgen_conf_finish_signature(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block)
{
    char                 *rv;
    ngx_str_t             text;
    ngx_vidgen_scheme_t  *scheme;

    scheme = &block->provider->webhook->scheme;

    if (block->signature_line == 0) {
        return ngx_http_vidgen_conf_error(cf, block->line,
                   "\"webhook\" of provider \"%V\" has no \"signature\"",
                   &block->provider->name);
    }

    if (scheme->token) {

        if (block->secrets.nelts) {
            return ngx_http_vidgen_conf_error(cf, block->secret_line,
                       "\"secret\" has no use with \"signature token\"");
        }

        return NGX_CONF_OK;
    }

    if (scheme->signed_text.text.data == NULL) {
        ngx_str_set(&text, "$vidgen_body");

        rv = ngx_http_vidgen_conf_template(cf, &text,
                                           NGX_VIDGEN_TEMPLATE_PLAIN, 0,
                                           &scheme->signed_text);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    rv = ngx_http_vidgen_conf_signature_missing(cf, block, scheme);
    if (rv != NGX_CONF_OK) {
        return ngx_http_vidgen_conf_error(cf, block->signature_line,
                                          "\"signature\" %s", rv);
    }

    if (scheme->event_id.len
        && ngx_http_vidgen_conf_signature_event_id(cf, scheme) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_vidgen_conf_signature_keys(cf, block, scheme);
}


static char *
ngx_http_vidgen_conf_signature_missing(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_vidgen_scheme_t *scheme)
{
    ngx_uint_t  uses;

    uses = scheme->signed_text.uses;

    if (scheme->header.len == 0) {
        return "needs \"header=\"";
    }

    if (!(uses & ((1 << NGX_VIDGEN_VALUE_BODY)
                  |(1 << NGX_VIDGEN_VALUE_BODY_SHA256))))
    {
        return "must have \"$vidgen_body\" or \"$vidgen_body_sha256\" in "
               "\"signed=\", or anybody who saw one webhook could change it";
    }

    if ((uses & (1 << NGX_VIDGEN_VALUE_TIMESTAMP))
        && scheme->timestamp.len == 0 && scheme->timestamp_element.len == 0)
    {
        return "needs \"timestamp=\" for the \"$vidgen_timestamp\" in "
               "\"signed=\"";
    }

    if (scheme->timestamp_element.len && scheme->list == 0) {
        return "needs \"list=\" for \"timestamp=@\"";
    }

    if (scheme->jwks.len && scheme->algorithm != NGX_VIDGEN_ED25519) {
        return "takes \"jwks=\" with \"ed25519\" only";
    }

    return NGX_CONF_OK;
}


/*
 * The id is read as a variable, as the signed text reads it, so that both
 * mean the same header whatever a request has.
 */

static ngx_int_t
ngx_http_vidgen_conf_signature_event_id(ngx_conf_t *cf,
    ngx_vidgen_scheme_t *scheme)
{
    u_char      ch, *p;
    size_t      i;
    ngx_str_t  *name;

    name = &scheme->event_id_variable;

    name->data = ngx_pnalloc(cf->pool, sizeof("http_") + scheme->event_id.len);
    if (name->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(name->data, "http_", sizeof("http_") - 1);

    for (i = 0; i < scheme->event_id.len; i++) {
        ch = scheme->event_id.data[i];
        *p++ = (ch == '-') ? '_' : ch;
    }

    name->len = p - name->data;

    scheme->event_id_signed =
               ngx_http_vidgen_conf_uses_variable(&scheme->signed_text.text,
                                                  name);

    return NGX_OK;
}


/* "$name" or "${name}" stands in the text */

static ngx_uint_t
ngx_http_vidgen_conf_uses_variable(ngx_str_t *text, ngx_str_t *name)
{
    u_char  ch, *p, *after, *last;

    last = text->data + text->len;

    for (p = text->data; p < last; p++) {

        if (*p != '$') {
            continue;
        }

        after = p + 1;

        if (after < last && *after == '{') {
            after++;
        }

        if ((size_t) (last - after) < name->len
            || ngx_strncasecmp(after, name->data, name->len) != 0)
        {
            continue;
        }

        after += name->len;
        ch = after < last ? ngx_tolower(*after) : 0;

        if ((ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') && ch != '_') {
            return 1;
        }
    }

    return 0;
}


static char *
ngx_http_vidgen_conf_signature_keys(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_vidgen_scheme_t *scheme)
{
    ngx_int_t    rc;
    ngx_str_t   *secret;
    ngx_uint_t   i;

    secret = block->secrets.elts;

    for (i = 0; i < block->secrets.nelts; i++) {

        rc = ngx_vidgen_scheme_add_key(scheme, cf->pool, &secret[i]);

        if (rc == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DECLINED) {
            return ngx_http_vidgen_conf_error(cf, block->secret_line,
                       "secret %ui of provider \"%V\" is not a key of the "
                       "form and algorithm that \"signature\" names",
                       i + 1, &block->provider->name);
        }
    }

    if (i == 0 && scheme->jwks.len == 0) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "vidgen: \"webhook\" of provider \"%V\" has no "
                           "secret: every webhook will be refused",
                           &block->provider->name);
    }

    return NGX_CONF_OK;
}
