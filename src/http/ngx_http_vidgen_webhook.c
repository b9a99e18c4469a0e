#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_context.h"
#include "http/ngx_http_vidgen_request.h"
#include "http/ngx_http_vidgen_webhook.h"
#include "http/ngx_http_vidgen_webhook_answer.h"
#include "http/ngx_http_vidgen_webhook_apply.h"


static void ngx_http_vidgen_webhook_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_vidgen_webhook_receive(ngx_http_request_t *r);


ngx_int_t
ngx_http_vidgen_webhook_handler(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    if (ngx_http_vidgen_ctx(r, 1) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->method == NGX_HTTP_OPTIONS) {
        rc = ngx_http_vidgen_webhook_options(r);
        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    return ngx_http_vidgen_request_post(r, ngx_http_vidgen_webhook_body);
}


/* some providers ask before they send; the definition says what to answer */
ngx_int_t
ngx_http_vidgen_webhook_options(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_str_t               empty;
    ngx_vidgen_provider_t  *provider;

    provider = ngx_http_vidgen_event_provider(r);

    if (provider == NULL
        || provider->webhook == NULL
        || provider->webhook->options == 0)
    {
        return NGX_DECLINED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_str_set(&empty, "");
    r->header_only = 1;

    return ngx_http_vidgen_send(r, provider->webhook->options, &empty);
}


static void
ngx_http_vidgen_webhook_body(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_vidgen_webhook_receive(r);

    /* NGX_DONE: the database's answer finalizes it */

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}


static ngx_int_t
ngx_http_vidgen_webhook_receive(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_http_vidgen_error_e       error;
    ngx_http_vidgen_event_t       event;
    ngx_vidgen_seen_value_t       value;
    ngx_http_vidgen_main_conf_t  *mcf;

    rc = ngx_http_vidgen_event_read(r, &event, &error);

    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_event_verify(r, &event, &error);
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_vidgen_webhook_refuse(r, error, NULL);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);

    rc = ngx_vidgen_seen_claim(mcf->zone, event.digest, NGX_VIDGEN_SEEN_LEASE,
                               &value, &event.claim);
    if (rc == NGX_OK) {
        return ngx_http_vidgen_webhook_replay(r, &value);
    }

    rc = ngx_http_vidgen_webhook_apply(r, &event);

    if (rc != NGX_DONE) {
        ngx_vidgen_seen_release(mcf->zone, event.digest, &event.claim);
    }

    return rc;
}
