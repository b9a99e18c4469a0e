#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_context.h"
#include "http/ngx_http_vidgen_verify.h"
#include "http/ngx_http_vidgen_verify_answer.h"
#include "http/ngx_http_vidgen_webhook.h"


static ngx_int_t ngx_http_vidgen_verify_handler(ngx_http_request_t *r);
static ngx_http_vidgen_verify_t *ngx_http_vidgen_verify_create(
    ngx_http_request_t *r, ngx_http_vidgen_ctx_t *ctx);
static ngx_int_t ngx_http_vidgen_verify_again(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx, ngx_http_vidgen_verify_t *verify);
static void ngx_http_vidgen_verify_cleanup(void *data);
static ngx_int_t ngx_http_vidgen_verify_method(ngx_http_request_t *r,
    ngx_http_vidgen_verify_t *verify);
static void ngx_http_vidgen_verify_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_vidgen_verify_decide(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx, ngx_http_vidgen_verify_t *verify);
static ngx_int_t ngx_http_vidgen_verify_genuine(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx, ngx_http_vidgen_verify_t *verify);
static void ngx_http_vidgen_verify_variables(ngx_http_vidgen_ctx_t *ctx,
    ngx_http_vidgen_verify_t *verify, ngx_vidgen_result_t *result);
static ngx_int_t ngx_http_vidgen_verify_header_filter(ngx_http_request_t *r);


static ngx_http_output_header_filter_pt  ngx_http_vidgen_verify_next_filter;


ngx_int_t
ngx_http_vidgen_verify_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    if (!ngx_http_vidgen_conf_has_role(cf, NGX_HTTP_VIDGEN_VERIFY)) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_vidgen_verify_handler;

    ngx_http_vidgen_verify_next_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_vidgen_verify_header_filter;

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_verify_handler(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_http_vidgen_ctx_t       *ctx;
    ngx_http_vidgen_verify_t    *verify;
    ngx_http_vidgen_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_vidgen_module);

    if (r != r->main
        || lcf->role != NGX_HTTP_VIDGEN_VERIFY
        || lcf->webhook_provider == NULL)
    {
        return NGX_DECLINED;
    }

    ctx = ngx_http_vidgen_ctx(r, 1);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    verify = ctx->verify;

    if (verify) {
        rc = ngx_http_vidgen_verify_again(r, ctx, verify);

    } else {
        verify = ngx_http_vidgen_verify_create(r, ctx);
        rc = verify ? NGX_AGAIN : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_AGAIN) {
        rc = ngx_http_vidgen_verify_method(r, verify);
    }

    if (rc == NGX_DECLINED) {
        return NGX_DECLINED;
    }

    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);
        return NGX_DONE;
    }

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_vidgen_verify_body);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


static ngx_http_vidgen_verify_t *
ngx_http_vidgen_verify_create(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_vidgen_verify_t  *verify;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_vidgen_verify_t));
    if (cln == NULL) {
        return NULL;
    }

    verify = cln->data;
    ngx_memzero(verify, sizeof(ngx_http_vidgen_verify_t));
    cln->handler = ngx_http_vidgen_verify_cleanup;

    ctx->verify = verify;

    return verify;
}


/* no header was sent: the client went away, or the request was cut off */

static void
ngx_http_vidgen_verify_cleanup(void *data)
{
    ngx_http_vidgen_verify_t *verify = data;

    (void) ngx_http_vidgen_verify_end(&verify->claim, 0);
}


/*
 * Not the first time in this request: the body has been read, or the request
 * was redirected.  NGX_AGAIN: verify, NGX_DECLINED: go on; else the answer.
 */

static ngx_int_t
ngx_http_vidgen_verify_again(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx, ngx_http_vidgen_verify_t *verify)
{
    if (verify->go_on) {
        verify->go_on = 0;
        return NGX_DECLINED;
    }

    /* the page of a refusal is not to reach the application */

    if (verify->refused && r->error_page) {
        return ngx_http_vidgen_verify_error(r, verify->error);
    }

    /* a location of another provider has other secrets */

    if (verify->passed
        && verify->event.provider == ngx_http_vidgen_event_provider(r))
    {
        return NGX_DECLINED;
    }

    (void) ngx_http_vidgen_verify_end(&verify->claim, 0);

    verify->passed = 0;
    verify->refused = 0;

    ngx_str_null(&ctx->job_id);
    ngx_str_null(&ctx->job_status);
    ctx->source = NULL;
    ctx->verified = 0;
    ctx->replay = 0;

    return NGX_AGAIN;
}


/* what needs no body; NGX_AGAIN: it is to be read */

static ngx_int_t
ngx_http_vidgen_verify_method(ngx_http_request_t *r,
    ngx_http_vidgen_verify_t *verify)
{
    ngx_int_t  rc;

    if (r->method == NGX_HTTP_POST) {
        return NGX_AGAIN;
    }

    if (r->method == NGX_HTTP_OPTIONS) {
        rc = ngx_http_vidgen_webhook_options(r);
        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    return ngx_http_vidgen_verify_refuse(r, verify,
                                         NGX_HTTP_VIDGEN_WRONG_METHOD);
}


static void
ngx_http_vidgen_verify_body(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_http_vidgen_ctx_t     *ctx;
    ngx_http_vidgen_verify_t  *verify;

    ctx = ngx_http_vidgen_ctx(r, 0);
    verify = ctx->verify;

    rc = ngx_http_vidgen_verify_decide(r, ctx, verify);

    if (rc != NGX_DECLINED) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    verify->go_on = 1;
    verify->passed = ctx->verified;

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


/* NGX_DECLINED: pass it on; else as ngx_http_finalize_request() takes it */

static ngx_int_t
ngx_http_vidgen_verify_decide(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx, ngx_http_vidgen_verify_t *verify)
{
    ngx_int_t                rc;
    ngx_http_vidgen_error_e  error;

    rc = ngx_http_vidgen_event_read(r, &verify->event, &error);

    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_event_verify(r, &verify->event, &error);
    }

    if (rc == NGX_DECLINED) {
        return ngx_http_vidgen_verify_refuse(r, verify, error);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_verify_genuine(r, ctx, verify);
    }

    return rc == NGX_ERROR ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
}


static ngx_int_t
ngx_http_vidgen_verify_genuine(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx, ngx_http_vidgen_verify_t *verify)
{
    ngx_int_t                rc;
    ngx_str_t                detail;
    ngx_vidgen_result_t      result;
    ngx_http_vidgen_error_e  error;

    /* what cannot be read is the application's to judge */

    rc = ngx_http_vidgen_event_parse(&verify->event, r->pool, &result, &error,
                                     &detail);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DONE) {
        ngx_str_set(&ctx->outcome, "challenge");
        return ngx_http_vidgen_send(r, NGX_HTTP_OK, &verify->event.body);
    }

    if (rc == NGX_OK) {
        ngx_http_vidgen_verify_variables(ctx, verify, &result);
    }

    rc = ngx_http_vidgen_verify_claim(r, &verify->event,
                                      rc == NGX_OK ? &result : NULL,
                                      &verify->claim);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK) {
        return ngx_http_vidgen_verify_replay(r, ctx);
    }

    if (rc == NGX_BUSY) {
        return ngx_http_vidgen_verify_refuse(r, verify,
                                             NGX_HTTP_VIDGEN_IN_FLIGHT);
    }

    ngx_str_set(&ctx->outcome, "passed");

    return NGX_DECLINED;
}


/* there is no job of ours here, so the job's id is the provider's */

static void
ngx_http_vidgen_verify_variables(ngx_http_vidgen_ctx_t *ctx,
    ngx_http_vidgen_verify_t *verify, ngx_vidgen_result_t *result)
{
    ctx->job_id = result->job_id;
    ctx->source = &verify->source;
    verify->source.values[NGX_VIDGEN_VALUE_PROVIDER_JOB_ID] = result->job_id;

    if (result->status != NGX_VIDGEN_STATUS_NONE) {
        ctx->job_status = ngx_vidgen_status_names[result->status];
    }
}


static ngx_int_t
ngx_http_vidgen_verify_header_filter(ngx_http_request_t *r)
{
    ngx_uint_t                 status;
    ngx_http_vidgen_ctx_t     *ctx;
    ngx_http_vidgen_verify_t  *verify;

    ctx = r == r->main ? ngx_http_vidgen_ctx(r, 0) : NULL;

    if (ctx && ctx->verify) {
        verify = ctx->verify;
        status = r->headers_out.status;

        if (ngx_http_vidgen_verify_end(&verify->claim, status)
            && (status < NGX_HTTP_OK || status >= NGX_HTTP_SPECIAL_RESPONSE))
        {
            ngx_str_set(&ctx->outcome, "released");
        }
    }

    return ngx_http_vidgen_verify_next_filter(r);
}
