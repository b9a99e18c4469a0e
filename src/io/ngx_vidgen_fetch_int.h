#ifndef _NGX_VIDGEN_FETCH_INT_H_INCLUDED_
#define _NGX_VIDGEN_FETCH_INT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <curl/curl.h>
#include "io/ngx_vidgen_fetch.h"


/* The inside of the fetcher, for its two files. */

struct ngx_vidgen_fetch_s {
    ngx_pool_t                  *pool;
    ngx_log_t                   *log;
    CURLM                       *multi;
    ngx_str_t                    ca_file;
    ngx_uint_t                   running;
    ngx_queue_t                  requests;   /* under way */
    ngx_queue_t                  used;       /* watches of sockets */
    ngx_queue_t                  free;       /* without one */
    ngx_event_t                  timer;      /* libcurl's; cancelable */

    /* for the timer: a debug log reads ev->data as a connection */
    ngx_connection_t             ident;
};


/* ngx_vidgen_fetch.c: for CURLOPT_OPENSOCKETFUNCTION */
curl_socket_t ngx_vidgen_fetch_open(void *data, curlsocktype purpose,
    struct curl_sockaddr *address);


/* ngx_vidgen_fetch_answer.c: one request and its answer */

/* Sets everything of the request's handle.  NGX_ERROR. */
ngx_int_t ngx_vidgen_fetch_prepare(ngx_vidgen_fetch_request_t *request);

/* The transfer ended with code: fills the answer. */
void ngx_vidgen_fetch_finish(ngx_vidgen_fetch_request_t *request,
    CURLcode code);


#endif /* _NGX_VIDGEN_FETCH_INT_H_INCLUDED_ */
