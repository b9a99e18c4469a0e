#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_text.h"
#include "core/ngx_vidgen_provider.h"


#define NGX_VIDGEN_TOKEN_LEN  32


/* by ngx_vidgen_status_e */
ngx_str_t  ngx_vidgen_status_names[] = {
    ngx_null_string,
    ngx_string("queued"),
    ngx_string("processing"),
    ngx_string("completed"),
    ngx_string("failed")
};


ngx_vidgen_status_e
ngx_vidgen_status_find(ngx_str_t *name)
{
    ngx_uint_t  status;

    for (status = NGX_VIDGEN_STATUS_FAILED; status; status--) {
        if (ngx_vidgen_text_same(&ngx_vidgen_status_names[status], name)) {
            break;
        }
    }

    return status;
}


ngx_vidgen_provider_t *
ngx_vidgen_provider_find(ngx_array_t *providers, ngx_str_t *name)
{
    ngx_uint_t               i;
    ngx_vidgen_provider_t  **provider;

    provider = providers->elts;

    for (i = 0; i < providers->nelts; i++) {
        if (ngx_vidgen_text_same(&provider[i]->name, name)) {
            return provider[i];
        }
    }

    return NULL;
}


ngx_vidgen_provider_t *
ngx_vidgen_provider_find_crc(ngx_array_t *providers, uint32_t crc)
{
    ngx_uint_t               i;
    ngx_vidgen_provider_t  **provider;

    provider = providers->elts;

    for (i = 0; i < providers->nelts; i++) {
        if (provider[i]->crc == crc) {
            return provider[i];
        }
    }

    return NULL;
}


void
ngx_vidgen_provider_source(ngx_vidgen_provider_t *provider,
    ngx_vidgen_source_t *source)
{
    source->values[NGX_VIDGEN_VALUE_BASE] = provider->base;
    source->values[NGX_VIDGEN_VALUE_API_KEY] = provider->api_key;
}


ngx_uint_t
ngx_vidgen_provider_code(ngx_array_t *codes, ngx_uint_t code)
{
    ngx_uint_t  i, *listed;

    listed = codes->elts;

    for (i = 0; i < codes->nelts; i++) {
        if (listed[i] == code || listed[i] == code / 100) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_vidgen_provider_webhook_url(ngx_str_t *base,
    ngx_vidgen_provider_t *provider, ngx_str_t *attempt,
    ngx_vidgen_key_t *key, ngx_pool_t *pool, ngx_str_t *url)
{
    u_char  *p;
    size_t   len;

    len = base->len + sizeof("?provider=&attempt=&token=") - 1
          + provider->name.len + attempt->len + NGX_VIDGEN_TOKEN_LEN;

    p = ngx_pnalloc(pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    url->data = p;

    /* neither name nor attempt has a character that wants escaping */

    p = ngx_sprintf(p, "%V%cprovider=%V&attempt=%V", base,
                    ngx_vidgen_url_path_end(base) < base->len ? '&' : '?',
                    &provider->name, attempt);

    if (key) {
        p = ngx_cpymem(p, "&token=", 7);

        if (ngx_vidgen_provider_token(key, attempt, p) != NGX_OK) {
            return NGX_ERROR;
        }

        p += NGX_VIDGEN_TOKEN_LEN;
    }

    url->len = p - url->data;

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_provider_token(ngx_vidgen_key_t *key, ngx_str_t *attempt,
    u_char token[32])
{
    size_t  len;
    u_char  mac[64];

    if (ngx_vidgen_key_sign(key, attempt, 1, mac, &len) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_hex_dump(token, mac, NGX_VIDGEN_TOKEN_LEN / 2);

    return NGX_OK;
}
