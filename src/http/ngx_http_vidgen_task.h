#ifndef _NGX_HTTP_VIDGEN_TASK_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_TASK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_store.h"
#include "http/ngx_http_vidgen_context.h"


/*
 * Work for a request that ends on its own when the client leaves: it has a
 * pool of its own, and the request is only where its answer goes.  Structs
 * that begin with a task are made by ngx_http_vidgen_task_create().
 */

typedef struct ngx_http_vidgen_task_s  ngx_http_vidgen_task_t;

struct ngx_http_vidgen_task_s {
    ngx_pool_t                *pool;
    ngx_http_request_t        *request;      /* NULL: the client has left */
    ngx_http_vidgen_ctx_t     *ctx;          /* NULL likewise */
    ngx_pool_cleanup_t        *cleanup;
    ngx_log_t                 *log;          /* the cycle's */
    ngx_vidgen_pg_call_t       call;         /* one at a time */
    /*
     * The client has just left; request is still set, its pool is going.
     * Calls ngx_http_vidgen_task_detach() or _destroy().  NULL: detach only.
     */
    void                     (*left)(ngx_http_vidgen_task_t *task);
};


/* A zeroed struct of size bytes that begins with a task; NULL: no memory. */
void *ngx_http_vidgen_task_create(ngx_http_request_t *r,
    ngx_http_vidgen_ctx_t *ctx, size_t size);

/*
 * Starts a statement; handler gets the task in call->data and calls
 * ngx_http_vidgen_task_called() first.  NGX_OK or NGX_BUSY as
 * ngx_vidgen_store_start().
 */
ngx_int_t ngx_http_vidgen_task_call(ngx_http_vidgen_task_t *task,
    ngx_vidgen_store_statement_e statement, void *params,
    ngx_vidgen_pg_handler_pt handler);

/* Notes the time and sets the request's log context. */
void ngx_http_vidgen_task_called(ngx_http_vidgen_task_t *task);

/*
 * Ends the request, if it is still there, with rc of an answer; the task no
 * longer knows it.  Runs the connection's posted requests.
 */
void ngx_http_vidgen_task_answer(ngx_http_vidgen_task_t *task, ngx_int_t rc);

/* The task forgets its request, which goes on or ends without it. */
void ngx_http_vidgen_task_detach(ngx_http_vidgen_task_t *task);

/*
 * Nobody waits for the answer any more, as far as nginx knows: over HTTP/2 a
 * client may have left a request that is still there.
 */
#define ngx_http_vidgen_task_gone(task)                                      \
    ((task)->request == NULL || (task)->request->connection->error)

/* Frees the task; the request, if still there, goes on without it. */
void ngx_http_vidgen_task_destroy(ngx_http_vidgen_task_t *task);


#endif /* _NGX_HTTP_VIDGEN_TASK_H_INCLUDED_ */
