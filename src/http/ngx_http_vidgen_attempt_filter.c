#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_attempt_filter.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_operation.h"


static ngx_int_t ngx_http_vidgen_attempt_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static void ngx_http_vidgen_attempt_drop(ngx_chain_t *in);


static ngx_http_output_body_filter_pt  ngx_http_vidgen_attempt_next_filter;


ngx_int_t
ngx_http_vidgen_attempt_filter_init(ngx_conf_t *cf)
{
    if (ngx_http_vidgen_conf_has_role(cf, NGX_HTTP_VIDGEN_GENERATE)) {
        ngx_http_vidgen_attempt_next_filter = ngx_http_top_body_filter;
        ngx_http_top_body_filter = ngx_http_vidgen_attempt_filter;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_attempt_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                     rc;
    ngx_http_vidgen_ctx_t        *ctx;
    ngx_http_vidgen_operation_t  *op;

    ctx = r != r->main ? ngx_http_vidgen_ctx(r, 0) : NULL;
    op = ctx ? ctx->operation : NULL;

    if (op == NULL || op->attempt.subrequest != r) {
        return ngx_http_vidgen_attempt_next_filter(r, in);
    }

    if (!op->attempt.unread) {

        rc = ngx_http_vidgen_attempt_next_filter(r, in);

        if (rc != NGX_ERROR || r->connection->error) {
            return rc;
        }

        op->attempt.unread = 1;
    }

    ngx_http_vidgen_attempt_drop(in);

    return NGX_OK;
}


static void
ngx_http_vidgen_attempt_drop(ngx_chain_t *in)
{
    ngx_chain_t  *cl;

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }
}
