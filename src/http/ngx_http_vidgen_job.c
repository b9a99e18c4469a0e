#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_id.h"
#include "base/ngx_vidgen_json.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_job.h"
#include "http/ngx_http_vidgen_request.h"
#include "http/ngx_http_vidgen_response.h"
#include "http/ngx_http_vidgen_task.h"


typedef struct {
    ngx_http_vidgen_task_t     task;
    ngx_vidgen_store_job_t     params;
} ngx_http_vidgen_job_t;


typedef struct {
    char                      *name;
    size_t                     offset;       /* in the row */
    ngx_uint_t                 quoted;
} ngx_http_vidgen_job_member_t;


static ngx_int_t ngx_http_vidgen_job_id(ngx_http_request_t *r, ngx_str_t *id);
static ngx_int_t ngx_http_vidgen_job_user(ngx_http_request_t *r,
    ngx_str_t *user);
static ngx_int_t ngx_http_vidgen_job_read(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx, ngx_str_t *id, ngx_str_t *user);
static void ngx_http_vidgen_job_done(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result);
static ngx_int_t ngx_http_vidgen_job_answer(ngx_http_request_t *r,
    ngx_vidgen_pg_result_t *result);
static ngx_int_t ngx_http_vidgen_job_print(ngx_http_request_t *r,
    ngx_vidgen_store_job_row_t *row, ngx_str_t *body);


#define ngx_http_vidgen_job_column(name)                                      \
    offsetof(ngx_vidgen_store_job_row_t, name)


static ngx_http_vidgen_job_member_t  ngx_http_vidgen_job_members[] = {
    { "job_id",            ngx_http_vidgen_job_column(job), 1 },
    { "provider",          ngx_http_vidgen_job_column(provider), 1 },
    { "status",            ngx_http_vidgen_job_column(status), 1 },
    { "video_url",         ngx_http_vidgen_job_column(video_url), 1 },
    { "error",             ngx_http_vidgen_job_column(error), 1 },
    { "estimated_time",    ngx_http_vidgen_job_column(estimated_time), 0 },
    { "provider_attempts", ngx_http_vidgen_job_column(provider_attempts), 0 },
    { "credits_used",      ngx_http_vidgen_job_column(credits_used), 0 },
    { "created_at",        ngx_http_vidgen_job_column(created_at), 1 },
    { "completed_at",      ngx_http_vidgen_job_column(completed_at), 1 },
    { NULL, 0, 0 }
};


ngx_int_t
ngx_http_vidgen_job_handler(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_str_t               id, user;
    ngx_http_vidgen_ctx_t  *ctx;

    rc = ngx_http_vidgen_request_get(r);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    ctx = ngx_http_vidgen_ctx(r, 1);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_vidgen_job_id(r, &id) == NGX_OK) {
        rc = ngx_http_vidgen_job_user(r, &user);

        if (rc == NGX_OK) {
            return ngx_http_vidgen_job_read(r, ctx, &id, &user);
        }

        if (rc == NGX_ERROR) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_vidgen_send_error(r, NGX_HTTP_VIDGEN_UNKNOWN_JOB, NULL);
}


/* the last segment of the path */
static ngx_int_t
ngx_http_vidgen_job_id(ngx_http_request_t *r, ngx_str_t *id)
{
    u_char  *p, bytes[16];

    p = r->uri.data + r->uri.len;

    while (p > r->uri.data && p[-1] != '/') {
        p--;
    }

    id->data = p;
    id->len = r->uri.data + r->uri.len - p;

    return ngx_vidgen_uuid_parse(id, bytes);
}


/* whose jobs may be read: anybody's without vidgen_user_id */
static ngx_int_t
ngx_http_vidgen_job_user(ngx_http_request_t *r, ngx_str_t *user)
{
    u_char                       bytes[16];
    ngx_http_vidgen_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_vidgen_module);

    ngx_str_null(user);

    if (lcf->user_id == NULL) {
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, lcf->user_id, user) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_vidgen_uuid_parse(user, bytes);
}


static ngx_int_t
ngx_http_vidgen_job_read(ngx_http_request_t *r, ngx_http_vidgen_ctx_t *ctx,
    ngx_str_t *id, ngx_str_t *user)
{
    ngx_http_vidgen_job_t  *job;

    ngx_http_vidgen_ctx_keep(r, &ctx->job_id, id);

    job = ngx_http_vidgen_task_create(r, ctx, sizeof(ngx_http_vidgen_job_t));
    if (job == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_vidgen_store_copy(job->task.pool, &job->params.job, id)
        != NGX_OK
        || ngx_vidgen_store_copy(job->task.pool, &job->params.user, user)
           != NGX_OK)
    {
        ngx_http_vidgen_task_destroy(&job->task);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_vidgen_task_call(&job->task, NGX_VIDGEN_STORE_JOB,
                                  &job->params, ngx_http_vidgen_job_done)
        != NGX_OK)
    {
        ngx_http_vidgen_task_destroy(&job->task);
        return ngx_http_vidgen_send_error(r, NGX_HTTP_VIDGEN_UNAVAILABLE,
                                          NULL);
    }

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_vidgen_job_done(ngx_vidgen_pg_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    ngx_http_vidgen_job_t *job = call->data;

    ngx_int_t  rc;

    ngx_http_vidgen_task_called(&job->task);

    if (job->task.request) {
        rc = ngx_http_vidgen_job_answer(job->task.request, result);
        ngx_http_vidgen_task_answer(&job->task, rc);
    }

    ngx_http_vidgen_task_destroy(&job->task);
}


static ngx_int_t
ngx_http_vidgen_job_answer(ngx_http_request_t *r,
    ngx_vidgen_pg_result_t *result)
{
    ngx_str_t                    body;
    ngx_http_vidgen_ctx_t       *ctx;
    ngx_vidgen_store_job_row_t   row;

    static ngx_str_t  no_store = ngx_string("no-store");

    if (result->outcome != NGX_VIDGEN_PG_DONE) {
        return ngx_http_vidgen_send_error(r, NGX_HTTP_VIDGEN_UNAVAILABLE,
                                          NULL);
    }

    if (ngx_vidgen_store_row(result, &row, sizeof(row)) != NGX_OK
        || row.job.len == 0)
    {
        return ngx_http_vidgen_send_error(r, NGX_HTTP_VIDGEN_UNKNOWN_JOB,
                                          NULL);
    }

    ctx = ngx_http_vidgen_ctx(r, 0);
    ngx_http_vidgen_ctx_keep(r, &ctx->provider, &row.provider);
    ngx_http_vidgen_ctx_keep(r, &ctx->job_status, &row.status);

    if (ngx_http_vidgen_job_print(r, &row, &body) != NGX_OK
        || ngx_http_vidgen_add_header(r, "Cache-Control", &no_store) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vidgen_send(r, NGX_HTTP_OK, &body);
}


static ngx_int_t
ngx_http_vidgen_job_print(ngx_http_request_t *r,
    ngx_vidgen_store_job_row_t *row, ngx_str_t *body)
{
    size_t                         size;
    u_char                        *p;
    ngx_str_t                     *value;
    ngx_http_vidgen_job_member_t  *m;

    size = sizeof("{}");

    for (m = ngx_http_vidgen_job_members; m->name; m++) {
        value = (ngx_str_t *) ((u_char *) row + m->offset);
        size += sizeof(",\"\":null") + ngx_strlen(m->name)
                + (size_t) ngx_vidgen_json_escape(NULL, value);
    }

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    for (m = ngx_http_vidgen_job_members; m->name; m++) {
        value = (ngx_str_t *) ((u_char *) row + m->offset);

        p = ngx_sprintf(p, "%s\"%s\":", p == body->data ? "{" : ",", m->name);

        if (value->data == NULL) {
            p = ngx_cpymem(p, "null", sizeof("null") - 1);

        } else if (m->quoted) {
            p = ngx_vidgen_json_escape(p, value);

        } else {
            p = ngx_cpymem(p, value->data, value->len);
        }
    }

    *p++ = '}';
    body->len = p - body->data;

    return NGX_OK;
}
