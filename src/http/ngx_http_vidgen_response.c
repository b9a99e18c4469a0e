#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_json.h"
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_context.h"
#include "http/ngx_http_vidgen_request.h"
#include "http/ngx_http_vidgen_response.h"


typedef struct {
    ngx_uint_t                 status;
    ngx_str_t                  code;
    ngx_str_t                  text;
    ngx_uint_t                 retry_after;      /* seconds; 0: no header */
} ngx_http_vidgen_error_t;


static ngx_uint_t ngx_http_vidgen_has_page(ngx_http_request_t *r,
    ngx_uint_t status);
static u_char *ngx_http_vidgen_print_member(u_char *p, char *name,
    ngx_str_t *value);
static ngx_int_t ngx_http_vidgen_add_retry_after(ngx_http_request_t *r,
    ngx_uint_t seconds);


/* by ngx_http_vidgen_error_e */
static ngx_http_vidgen_error_t  ngx_http_vidgen_errors[] = {

    { 400, ngx_string("bad_json"),
      ngx_string("the body is not valid JSON"), 0 },

    { 400, ngx_string("not_an_object"),
      ngx_string("the body is not a JSON object"), 0 },

    { 400, ngx_string("bad_field"),
      ngx_string("a field is missing or malformed"), 0 },

    { 400, ngx_string("unknown_provider"),
      ngx_string("there is no such provider"), 0 },

    { 400, ngx_string("unknown_model"),
      ngx_string("there is no such model"), 0 },

    { 400, ngx_string("wrong_provider"),
      ngx_string("the provider does not serve this model"), 0 },

    { 400, ngx_string("bad_idempotency_key"),
      ngx_string("the Idempotency-Key is missing or malformed"), 0 },

    { 400, ngx_string("insufficient_credits"),
      ngx_string("not enough credits"), 0 },

    { 401, ngx_string("bad_signature"),
      ngx_string("the signature is missing or wrong"), 0 },

    { 401, ngx_string("wrong_job"),
      ngx_string("the webhook does not belong to this URL"), 0 },

    { 403, ngx_string("wrong_user"),
      ngx_string("user_id is not that of the authenticated user"), 0 },

    { 404, ngx_string("unknown_job"),
      ngx_string("there is no such job"), 0 },

    { 405, ngx_string("wrong_method"),
      ngx_string("the method is not allowed here"), 0 },

    { 409, ngx_string("still_running"),
      ngx_string("a request with this Idempotency-Key is still running"), 1 },

    { 422, ngx_string("idempotency_key_mismatch"),
      ngx_string("the Idempotency-Key was used with another request"), 0 },

    { 422, ngx_string("provider_refused"),
      ngx_string("the provider refused the request"), 0 },

    { 502, ngx_string("provider_failed"),
      ngx_string("no provider accepted the request"), 0 },

    { 503, ngx_string("no_provider"),
      ngx_string("no provider is available"), 5 },

    { 503, ngx_string("unavailable"),
      ngx_string("the service is temporarily unavailable"), 5 },

    { 504, ngx_string("outcome_unknown"),
      ngx_string("the outcome is not known yet"), 0 },

    { 503, ngx_string("no_key_set"),
      ngx_string("the provider's keys are not loaded yet"), 5 },

    { 503, ngx_string("in_flight"),
      ngx_string("this webhook is being handled right now"), 1 },

    { 404, ngx_string("unknown_provider"),
      ngx_string("there is no such provider"), 0 }
};


ngx_int_t
ngx_http_vidgen_send(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t *body)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    /* an unread body must not be taken for the connection's next request */

    r->expect_tested = 1;

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        r->keepalive = 0;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = body->data;
    b->last = body->data + body->len;
    b->memory = 1;
    b->last_buf = 1;

    r->headers_out.status = status;
    r->headers_out.content_length_n = body->len;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_int_t
ngx_http_vidgen_send_error(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_http_vidgen_error_info_t *info)
{
    size_t                         size;
    u_char                        *p;
    ngx_str_t                      body, *text;
    ngx_uint_t                     retry_after;
    ngx_http_vidgen_ctx_t         *ctx;
    ngx_http_vidgen_error_t       *e;
    ngx_http_vidgen_error_info_t   none;

    if (info == NULL) {
        ngx_memzero(&none, sizeof(none));
        info = &none;
    }

    e = &ngx_http_vidgen_errors[error];
    text = info->detail.len ? &info->detail : &e->text;
    retry_after = info->retry_after ? info->retry_after : e->retry_after;

    ctx = ngx_http_vidgen_ctx(r, 1);

    if (ctx && ctx->outcome.len == 0) {
        ctx->outcome = e->code;
    }

    if (retry_after
        && ngx_http_vidgen_add_retry_after(r, retry_after) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (info->allow.len
        && ngx_http_vidgen_add_header(r, "Allow", &info->allow) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_vidgen_has_page(r, e->status)) {
        return e->status;
    }

    size = sizeof("{\"error\":,\"code\":\"\",\"job_id\":}")
           + (size_t) ngx_vidgen_json_escape(NULL, text) + e->code.len
           + (size_t) ngx_vidgen_json_escape(NULL, &info->job_id);

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.data = p;
    p = ngx_cpymem(p, "{\"error\":", sizeof("{\"error\":") - 1);
    p = ngx_vidgen_json_escape(p, text);
    p = ngx_sprintf(p, ",\"code\":\"%V\"", &e->code);
    p = ngx_http_vidgen_print_member(p, ",\"job_id\":", &info->job_id);
    *p++ = '}';
    body.len = p - body.data;

    return ngx_http_vidgen_send(r, e->status, &body);
}


ngx_int_t
ngx_http_vidgen_send_refusal(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_str_t *detail)
{
    ngx_http_vidgen_error_info_t  info;

    ngx_http_vidgen_ctx(r, 0)->outcome = ngx_http_vidgen_errors[error].code;

    ngx_memzero(&info, sizeof(info));

    if (detail) {
        info.detail = *detail;
    }

    return ngx_http_vidgen_send_error(r, error, &info);
}


ngx_int_t
ngx_http_vidgen_send_wrong_method(ngx_http_request_t *r, char *allow)
{
    ngx_http_vidgen_error_info_t  info;

    ngx_memzero(&info, sizeof(info));

    info.allow.data = (u_char *) allow;
    info.allow.len = ngx_strlen(allow);

    return ngx_http_vidgen_send_error(r, NGX_HTTP_VIDGEN_WRONG_METHOD, &info);
}


ngx_int_t
ngx_http_vidgen_error_by_code(ngx_str_t *code, ngx_http_vidgen_error_e *error)
{
    ngx_uint_t  i;

    for (i = 0; i <= NGX_HTTP_VIDGEN_IN_FLIGHT; i++) {
        if (ngx_vidgen_text_same(&ngx_http_vidgen_errors[i].code, code)) {
            *error = i;
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


ngx_str_t *
ngx_http_vidgen_error_code(ngx_http_vidgen_error_e error)
{
    return &ngx_http_vidgen_errors[error].code;
}


ngx_uint_t
ngx_http_vidgen_error_status(ngx_http_vidgen_error_e error)
{
    return ngx_http_vidgen_errors[error].status;
}


ngx_int_t
ngx_http_vidgen_send_generation(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_vidgen_generation_t *generation)
{
    size_t      size;
    u_char     *p;
    ngx_str_t   body;

    size = sizeof("{\"job_id\":,\"provider\":,\"status\":,"
                  "\"estimated_time\":}")
           + (size_t) ngx_vidgen_json_escape(NULL, &generation->job_id)
           + (size_t) ngx_vidgen_json_escape(NULL, &generation->provider)
           + (size_t) ngx_vidgen_json_escape(NULL, &generation->status)
           + generation->estimated_time.len;

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.data = p;
    p = ngx_http_vidgen_print_member(p, "{\"job_id\":", &generation->job_id);
    p = ngx_http_vidgen_print_member(p, ",\"provider\":",
                                     &generation->provider);
    p = ngx_http_vidgen_print_member(p, ",\"status\":", &generation->status);

    if (generation->estimated_time.len) {
        p = ngx_sprintf(p, ",\"estimated_time\":%V",
                        &generation->estimated_time);
    }

    *p++ = '}';
    body.len = p - body.data;

    return ngx_http_vidgen_send(r, status, &body);
}


ngx_int_t
ngx_http_vidgen_send_success(ngx_http_request_t *r, ngx_str_t *job)
{
    u_char     *p;
    ngx_str_t   body;

    static ngx_str_t  parked = ngx_string("{\"success\":true,\"job_id\":null}");

    if (job == NULL || job->len == 0) {
        return ngx_http_vidgen_send(r, NGX_HTTP_OK, &parked);
    }

    p = ngx_pnalloc(r->pool, sizeof("{\"success\":true,\"job_id\":\"\"}")
                             + job->len);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.data = p;
    body.len = ngx_sprintf(p, "{\"success\":true,\"job_id\":\"%V\"}", job)
               - p;

    return ngx_http_vidgen_send(r, NGX_HTTP_OK, &body);
}


ngx_int_t
ngx_http_vidgen_add_header(ngx_http_request_t *r, char *name, ngx_str_t *value)
{
    ngx_str_t         key;
    ngx_table_elt_t  *h;

    key.data = (u_char *) name;
    key.len = ngx_strlen(name);

    /* one is there where an error_page led here */

    h = ngx_http_vidgen_header(&r->headers_out.headers, &key, 0);

    if (h == NULL) {
        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(h, sizeof(ngx_table_elt_t));
    }

    h->hash = 1;
    h->key = key;
    h->value = *value;

    return NGX_OK;
}


ngx_int_t
ngx_http_vidgen_add_replay(ngx_http_request_t *r)
{
    static ngx_str_t  value = ngx_string("true");

    return ngx_http_vidgen_add_header(r, "X-Idempotent-Replay", &value);
}


/* ,"name":"value" if there is a value */
static u_char *
ngx_http_vidgen_print_member(u_char *p, char *name, ngx_str_t *value)
{
    if (value->len == 0) {
        return p;
    }

    p = ngx_cpymem(p, name, ngx_strlen(name));

    return ngx_vidgen_json_escape(p, value);
}


static ngx_int_t
ngx_http_vidgen_add_retry_after(ngx_http_request_t *r, ngx_uint_t seconds)
{
    ngx_str_t  value;

    if (ngx_vidgen_text_number(r->pool, &value, seconds) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_vidgen_add_header(r, "Retry-After", &value);
}


static ngx_uint_t
ngx_http_vidgen_has_page(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->error_page || clcf->error_pages == NULL) {
        return 0;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {
        if (page[i].status == (ngx_int_t) status) {
            return 1;
        }
    }

    return 0;
}
