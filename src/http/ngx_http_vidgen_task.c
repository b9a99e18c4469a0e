#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_process.h"
#include "http/ngx_http_vidgen_task.h"


#define NGX_HTTP_VIDGEN_TASK_POOL_SIZE  2048


static void ngx_http_vidgen_task_cleanup(void *data);


void *
ngx_http_vidgen_task_create(ngx_http_request_t *r, ngx_http_vidgen_ctx_t *ctx,
    size_t size)
{
    ngx_pool_t              *pool;
    ngx_pool_cleanup_t      *cln;
    ngx_http_vidgen_task_t  *task;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    pool = ngx_create_pool(NGX_HTTP_VIDGEN_TASK_POOL_SIZE, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    task = ngx_pcalloc(pool, size);
    if (task == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    task->pool = pool;
    task->request = r;
    task->ctx = ctx;
    task->cleanup = cln;
    task->log = ngx_cycle->log;

    cln->handler = ngx_http_vidgen_task_cleanup;
    cln->data = task;

    return task;
}


static void
ngx_http_vidgen_task_cleanup(void *data)
{
    ngx_http_vidgen_task_t *task = data;

    if (task->left) {
        task->left(task);
        return;
    }

    ngx_http_vidgen_task_detach(task);
}


void
ngx_http_vidgen_task_detach(ngx_http_vidgen_task_t *task)
{
    if (task->request == NULL) {
        return;
    }

    if ((void *) task->ctx->operation == (void *) task) {
        task->ctx->source = NULL;
        task->ctx->operation = NULL;
    }

    task->cleanup->handler = NULL;
    task->request = NULL;
    task->ctx = NULL;
}


ngx_int_t
ngx_http_vidgen_task_call(ngx_http_vidgen_task_t *task,
    ngx_vidgen_store_statement_e statement, void *params,
    ngx_vidgen_pg_handler_pt handler)
{
    task->call.handler = handler;
    task->call.data = task;

    return ngx_http_vidgen_store_start(task->ctx, statement, &task->call,
                                       params);
}


void
ngx_http_vidgen_task_called(ngx_http_vidgen_task_t *task)
{
    ngx_connection_t  *c;

    ngx_http_vidgen_store_done(task->ctx);

    if (task->request) {
        c = task->request->connection;
        ngx_http_set_log_request(c->log, task->request);
    }
}


void
ngx_http_vidgen_task_answer(ngx_http_vidgen_task_t *task, ngx_int_t rc)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = task->request;

    if (r == NULL) {
        return;
    }

    ngx_http_vidgen_task_detach(task);

    c = r->connection;

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


void
ngx_http_vidgen_task_destroy(ngx_http_vidgen_task_t *task)
{
    ngx_http_vidgen_task_detach(task);
    ngx_destroy_pool(task->pool);
}
