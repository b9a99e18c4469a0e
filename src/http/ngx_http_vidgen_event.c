#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_id.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_context.h"
#include "http/ngx_http_vidgen_event.h"
#include "http/ngx_http_vidgen_request.h"
#include "shm/ngx_vidgen_relay.h"


static ngx_int_t ngx_http_vidgen_event_header(void *data, ngx_str_t *name,
    ngx_str_t *value);
static ngx_int_t ngx_http_vidgen_event_signature(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, const char **reason);
static ngx_int_t ngx_http_vidgen_event_token(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event);
static ngx_int_t ngx_http_vidgen_event_digest(ngx_http_vidgen_event_t *event);


ngx_int_t
ngx_http_vidgen_event_read(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, ngx_http_vidgen_error_e *error)
{
    u_char                  bytes[16];
    ngx_str_t               attempt;
    ngx_http_vidgen_ctx_t  *ctx;

    event->provider = ngx_http_vidgen_event_provider(r);

    if (event->provider == NULL) {
        *error = NGX_HTTP_VIDGEN_UNKNOWN_PROVIDER;
        return NGX_DECLINED;
    }

    ctx = ngx_http_vidgen_ctx(r, 0);
    ctx->provider = event->provider->name;

    ngx_str_null(&event->attempt);

    if (ngx_http_vidgen_request_argument(r, "attempt", &attempt) == NGX_OK
        && ngx_vidgen_uuid_parse(&attempt, bytes) == NGX_OK)
    {
        event->attempt.data = ngx_pnalloc(r->pool, NGX_VIDGEN_UUID_LEN);
        if (event->attempt.data == NULL) {
            return NGX_ERROR;
        }

        (void) ngx_vidgen_uuid_print(event->attempt.data, bytes);
        event->attempt.len = NGX_VIDGEN_UUID_LEN;
    }

    return ngx_http_vidgen_request_body(r, &event->body);
}


ngx_vidgen_provider_t *
ngx_http_vidgen_event_provider(ngx_http_request_t *r)
{
    ngx_str_t                     name;
    ngx_vidgen_provider_t       **first;
    ngx_http_vidgen_loc_conf_t   *lcf;
    ngx_http_vidgen_main_conf_t  *mcf;

    static ngx_str_t  header = ngx_string("x-provider");

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_vidgen_module);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);

    ngx_str_null(&name);

    if (lcf->webhook_provider) {
        if (ngx_http_complex_value(r, lcf->webhook_provider, &name)
            != NGX_OK)
        {
            return NULL;
        }

        return ngx_vidgen_provider_find(&mcf->providers, &name);
    }

    if (ngx_http_vidgen_request_argument(r, "provider", &name) == NGX_OK
        || ngx_http_vidgen_event_header(r, &header, &name) == NGX_OK)
    {
        return ngx_vidgen_provider_find(&mcf->providers, &name);
    }

    first = mcf->providers.elts;

    return first[0];
}


static ngx_int_t
ngx_http_vidgen_event_header(void *data, ngx_str_t *name, ngx_str_t *value)
{
    ngx_http_request_t *r = data;

    ngx_table_elt_t  *header;

    header = ngx_http_vidgen_header(&r->headers_in.headers, name, 0);
    if (header == NULL) {
        return NGX_DECLINED;
    }

    *value = header->value;

    return NGX_OK;
}


ngx_int_t
ngx_http_vidgen_event_verify(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, ngx_http_vidgen_error_e *error)
{
    ngx_int_t               rc;
    const char             *reason;
    ngx_http_vidgen_ctx_t  *ctx;

    ctx = ngx_http_vidgen_ctx(r, 0);
    ctx->checked = 1;

    *error = NGX_HTTP_VIDGEN_BAD_SIGNATURE;
    reason = "";

    if (event->provider->webhook == NULL) {
        reason = "it sends none";
        rc = NGX_DECLINED;

    } else if (event->provider->webhook->scheme.token) {
        reason = "no token, or a wrong one";
        rc = ngx_http_vidgen_event_token(r, event);

    } else {
        rc = ngx_http_vidgen_event_signature(r, event, &reason);
    }

    if (rc == NGX_AGAIN) {
        *error = NGX_HTTP_VIDGEN_NO_KEY_SET;
        return NGX_DECLINED;
    }

    if (rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_INFO, ngx_http_vidgen_event_log(r), 0,
                      "vidgen: webhook refused: provider \"%V\": %s,"
                      " client: %V", &event->provider->name, reason,
                      &r->connection->addr_text);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->verified = 1;

    return ngx_http_vidgen_event_digest(event);
}


ngx_log_t *
ngx_http_vidgen_event_log(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return clcf->error_log;
}


static ngx_int_t
ngx_http_vidgen_event_signature(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, const char **reason)
{
    ngx_int_t                     rc;
    ngx_vidgen_source_t           source;
    ngx_vidgen_scheme_t          *scheme;
    ngx_vidgen_scheme_input_t     input;
    ngx_http_vidgen_main_conf_t  *mcf;

    ngx_memzero(&source, sizeof(source));
    source.variable = ngx_http_vidgen_ctx_variable;
    source.data = r;

    input.body = &event->body;
    input.now = ngx_time();
    input.header = ngx_http_vidgen_event_header;
    input.data = r;
    input.source = &source;

    scheme = &event->provider->webhook->scheme;

    rc = ngx_vidgen_scheme_verify(scheme, &input, r->pool, reason);

    /* the provider may sign with a key that is newer than our set */

    if (rc == NGX_DECLINED && scheme->jwks.len) {
        mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);
        ngx_vidgen_relay_keys_ask(mcf->zone, &event->provider->name);
    }

    return rc;
}


/* a capability: whoever knows the token was told of this attempt */
static ngx_int_t
ngx_http_vidgen_event_token(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event)
{
    u_char                        bytes[32];
    ngx_str_t                     given, token;
    ngx_uint_t                    i;
    ngx_vidgen_key_t            **key;
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);

    if (event->attempt.len == 0
        || ngx_http_vidgen_request_argument(r, "token", &given) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    token.data = bytes;
    token.len = sizeof(bytes);
    key = mcf->secrets.elts;

    for (i = 0; i < mcf->secrets.nelts; i++) {
        if (ngx_vidgen_provider_token(key[i], &event->attempt, bytes)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (ngx_vidgen_equal(&given, &token)) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


/* the zone's key: provider, attempt of the URL and raw body */
static ngx_int_t
ngx_http_vidgen_event_digest(ngx_http_vidgen_event_t *event)
{
    ngx_str_t  pieces[5];

    static ngx_str_t  separator = { 1, (u_char *) "\0" };

    pieces[0] = event->provider->name;
    pieces[1] = separator;
    pieces[2] = event->attempt;
    pieces[3] = separator;
    pieces[4] = event->body;

    return ngx_vidgen_sha256(pieces, 5, event->digest);
}


ngx_int_t
ngx_http_vidgen_event_parse(ngx_http_vidgen_event_t *event, ngx_pool_t *pool,
    ngx_vidgen_result_t *result, ngx_http_vidgen_error_e *error,
    ngx_str_t *detail)
{
    ngx_int_t              rc;
    const char            *reason;
    ngx_vidgen_json_t     *json;
    ngx_vidgen_webhook_t  *definition;

    definition = event->provider->webhook;

    json = ngx_vidgen_json_parse(pool, &event->body, NGX_VIDGEN_JSON_PROVIDER,
                                 &reason);
    if (json == NULL) {
        *error = NGX_HTTP_VIDGEN_BAD_JSON;
        return reason ? NGX_DECLINED : NGX_ERROR;
    }

    if (!ngx_vidgen_json_is_object(json)) {
        *error = NGX_HTTP_VIDGEN_NOT_AN_OBJECT;
        return NGX_DECLINED;
    }

    if (definition->challenge
        && ngx_vidgen_json_get(json, definition->challenge))
    {
        return NGX_DONE;
    }

    rc = ngx_vidgen_provider_read(&definition->reading, json, pool, result,
                                  &reason);
    if (rc == NGX_DECLINED) {
        *error = NGX_HTTP_VIDGEN_BAD_FIELD;
        detail->data = (u_char *) reason;
        detail->len = ngx_strlen(reason);
    }

    return rc;
}
