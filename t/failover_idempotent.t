#!/usr/bin/perl

# A provider that knows its requests by their key: the same attempt is sent
# again where it is unknown whether the provider has it, and stays unknown
# until the provider accepts it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(customer ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Jobs qw(attempts);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Sql;
use VidgenTest::Util qw(wait_for);

# directives; what "same" answers, one after the other; what "other" answers,
# undef where it is not there; who is asked, a digit for each key of "same";
# status of ours, the attempts
my $ok = {};
my $hang = { hang => 1 };
my $many = { status => 429, headers => { 'Retry-After' => 30 } };

my @cases = (
    ['a timeout', '', [$hang, $ok], $ok, '11', 200, 'same accepted 200 -'],
    ['502', '', [{ status => 502 }, $ok], $ok, '11', 200,
        'same accepted 200 -'],
    ['closed', '', [{ drop => 'after' }, $ok], $ok, '11', 200,
        'same accepted 200 -'],
    ['502 twice', '', [({ status => 502 }) x 2], $ok, '11o', 200,
        'same unknown 502 http_502, other accepted 200 -'],
    ['502 for ever, nobody else', '', [{ status => 502 }], undef, '111', 202,
        'same unknown 502 http_502'],
    ['the third time', '', [({ status => 504 }) x 2, $ok], undef, '111', 200,
        'same accepted 200 -'],

    ['a refusal says nothing of the first', '', [{ status => 502 },
        { status => 503 }], { status => 503 }, '11ooo', 202,
        'same unknown 503 http_503' . ', other refused 503 http_503' x 3],
    ['a refused content neither', '', [{ status => 502 }, { status => 422 }],
        $ok, '11', 202, 'same unknown 422 http_422'],
    ['too many requests neither', '', [{ status => 502 }, $many], $ok, '11o',
        200, 'same unknown 429 http_429, other accepted 200 -'],
    ['too many requests, nobody else', '', [{ status => 502 }, $many], undef,
        '11', 202, 'same unknown 429 http_429'],

    ['a refusal is another attempt', '', [{ status => 503 }, $ok], undef,
        '12', 200, 'same refused 503 http_503, same accepted 200 -'],
    ['a refusal, then unknown', '', [{ status => 503 }, { status => 502 },
        $ok], undef, '122', 200,
        'same refused 503 http_503, same accepted 200 -'],

    ['once', 'vidgen_retry attempts=1;', [{ status => 502 }], $ok, '1o', 200,
        'same unknown 502 http_502, other accepted 200 -'],
    ['only unsent ones', 'vidgen_next_provider unsent;', [{ status => 502 }],
        $ok, '1', 202, 'same unknown 502 http_502'],
    ['unsent ones and others', 'vidgen_next_provider unsent http_5xx;',
        [{ status => 502 }, { drop => 'after' }], $ok, '11', 202,
        'same unknown - reset'],
    ['not listed', 'vidgen_next_provider timeout;', [{ status => 502 }], $ok,
        '1', 202, 'same unknown 502 http_502'],
    ['an invalid answer', '', [{ body => {} }], $ok, '1', 202,
        'same unknown 200 invalid_answer'],
    ['an invalid answer that is listed',
        'vidgen_next_provider invalid_answer;', [{ body => {} }, $ok], $ok,
        '11', 200, 'same accepted 200 -'],
    ['two tries', 'vidgen_next_provider_tries 2;', [{ status => 502 }], $ok,
        '11', 202, 'same unknown 502 http_502'],
    ['no time', 'vidgen_next_provider_timeout 100ms;', [{ status => 502,
        delay => 0.2 }], $ok, '1', 202, 'same unknown 502 http_502'],
);

plan tests => 5 * @cases + 2;

my $providers = '';
my $locations = '';

for my $i (0 .. $#cases) {
    my ($name, $directives, $answers, $other) = @{ $cases[$i] };
    my $more = $name eq 'a timeout' ? 'vidgen_attempt_timeout 2s;' : '';
    $providers .= <<"EOT";
vidgen_provider same$i {
    submit {
        url     %%BASE%%/same$i;
        header  Idempotency-Key \$vidgen_attempt_id;
        body    /prompt \$vidgen_prompt;
        job_id  /request_id;
        idempotent;
    }
}
vidgen_provider other$i {
    submit { url %%BASE%%/other$i; job_id /request_id; }
}
EOT
    my $list = defined $other ? "same$i other$i" : "same$i";
    $locations .= <<"EOT";
location = /$i { vidgen_generate $list; vidgen_retry backoff=20ms;
                 $directives $more }
EOT
    $locations =~ s/vidgen_retry backoff=20ms;\s+(?=vidgen_retry)//;
}

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars  => { DB => $pg->edge_conninfo, BASE => $standin->url },
    files => { 'providers.conf' => $providers,
        'locations.conf' => $locations },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    log_format attempts "$vidgen_attempts";

    vidgen_database "%%DB%%";
    vidgen_monitor  fails=100;
    include         providers.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        access_log                    %%PREFIX%%/attempts.log attempts;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        include                       locations.conf;
    }
}
EOT

my $db = VidgenTest::Sql->new($pg);
my $user = customer($db, 1000);

for my $i (0 .. $#cases) {
    my ($name, undef, $answers, $other, $asked, $status, $attempts)
        = @{ $cases[$i] };

    $standin->forget;
    $standin->script(qr{/same$i$}, @$answers);
    $standin->on(qr{/other$i$}, %{ $other // {} });

    my $answer = post($nginx->url("/$i"), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $job = $answer->{json}{job_id};

    my ($n, %key, %body) = (0);
    my $got = join '', map {
        my $key = $_->{headers}{'idempotency-key'};
        $body{ $key // '' }{ $_->{body} } = 1;
        defined $key ? $key{$key} //= ++$n : 'o';
    } @{ $standin->requests };

    is($answer->{status}, $status, "$name: the answer");
    is($got, $asked, "$name: who is asked, with which key");
    is(attempts($db, $job) =~ s/(same|other)$i/$1/gr, $attempts,
        "$name: the attempts");
    is_deeply([grep { keys %{ $body{$_} } > 1 && $_ ne '' } keys %body], [],
        "$name: a key has one body");
    is(ledger($db, $job), 'hold 1', "$name: the credits are held");
}

my @logged;
wait_for { @logged = split /\n/, $nginx->read_file('attempts.log');
    @logged >= @cases };
is_deeply(\@logged, [map { 1 + ($_->[6] =~ tr/,//) } @cases],
    'what is sent again is the same attempt');
is_deeply([wrong_books($db)], [], 'the books are right');
