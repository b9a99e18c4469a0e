#!/usr/bin/perl

# vidgen_next_provider: what each word moves on, and nothing else; "unsent"
# alone never asks another provider once a byte has left for the first.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use IO::Socket::INET;
use Test::More;

use VidgenTest::Books qw(balance customer wrong_books);
use VidgenTest::Http qw(many);
use VidgenTest::Jobs qw(attempts);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Sql;
use VidgenTest::Util qw(free_port);

# What happens to the first provider: its answer, or where it is; what its
# attempt is then.
my %faults = (
    connect   => ['http://127.0.0.1:%%PORT_NOBODY%%', 'unsent'],
    handshake => ['https://127.0.0.1:%%SILENT%%', 'unsent'],
    reset     => [{ drop => 'after' }, 'unknown'],
    timeout   => [{ hang => 1 }, 'unknown'],
    invalid   => [{ body => { id => 1 } }, 'unknown'],
    (map { $_ => [{ status => $_ }, 'unknown'] } 408, 502, 504),
    (map { $_ => [{ status => $_ }, 'refused'] } 400, 401, 402, 403, 404, 410,
        429, 500, 503),
);
my @faults = sort keys %faults;

# the words, and what moves on
my @cases = (
    ['error',          qw(connect reset)],
    ['timeout',        qw(408 504 handshake timeout)],
    ['http_5xx',       qw(500 502 503 504)],
    ['http_429',       qw(429)],
    ['http_401',       qw(401)],
    ['http_402',       qw(402)],
    ['http_403',       qw(403)],
    ['http_404',       qw(404)],
    ['invalid_answer', qw(invalid)],
    ['unsent',         qw(connect handshake)],
    ['off'],
    ['unsent http_429 http_403', qw(403 429 connect handshake)],
    ['error timeout http_5xx http_429 http_401 http_402 http_403 http_404'
        . ' invalid_answer', grep { !/^4(?:00|10)$/ } @faults],
    ['', qw(408 429 500 502 503 504 connect handshake reset timeout)],
);

plan tests => 5 * @cases + 2;

# a provider for each case and fault, so that none is remembered

my $providers = '';
my $locations = '';

for my $i (0 .. $#cases) {
    my $words = $cases[$i][0];
    my $directive = $words && "vidgen_next_provider $words;";
    for my $fault (@faults) {
        my $where = $faults{$fault}[0];
        my $base = ref $where ? '%%FIRST%%' : $where;
        $providers .= <<"EOT";
vidgen_provider p$i-$fault {
    submit { url $base/$i/$fault; job_id /request_id; }
}
EOT
        my $more = $fault =~ /timeout|handshake/
            ? 'vidgen_attempt_timeout 1500ms;' : '';
        $locations .= <<"EOT";
location = /$i/$fault { vidgen_generate p$i-$fault second; $directive $more }
EOT
    }
}

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $first = VidgenTest::Provider->new;
my $second = VidgenTest::Provider->new;

$first->on(qr{/$_$}, %{ $faults{$_}[0] })
    for grep { ref $faults{$_}[0] } @faults;

# takes connections and says nothing
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 100,
    LocalPort => free_port(), ReuseAddr => 1) or die "listen: $@";

my $nginx = VidgenTest::Nginx->new(
    vars  => { DB => $pg->edge_conninfo, FIRST => $first->url,
        SECOND => $second->url, SILENT => $silent->sockport },
    files => { 'providers.conf' => $providers,
        'locations.conf' => $locations },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";
    include         providers.conf;

    vidgen_provider second {
        submit { url %%SECOND%%/second; job_id /request_id; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        include                       locations.conf;
    }
}
EOT

my $db = VidgenTest::Sql->new($pg);
my $user = customer($db, 1000);
my $paid = 0;

for my $i (0 .. $#cases) {
    my ($words, @moves) = @{ $cases[$i] };
    my $name = $words || 'the default';
    my (@moved, @wrong, @attempts, @expected);

    $second->forget;
    my @answers = many(map { ['POST', $nginx->url("/$i/$_"), {},
        qq({"user_id":"$user","model_id":"vision-1","prompt":"p"})] } @faults);

    for my $fault (@faults) {
        my $answer = shift @answers;
        my $state = $faults{$fault}[1];
        my $moved = ($answer->{json}{provider} // '') eq 'second';
        push @moved, $fault if $moved;

        my $status = $moved ? 200 : $state eq 'unknown' ? 202
            : $fault eq '400' ? 422 : $fault eq '429' ? 503 : 502;
        push @wrong, "$fault: $answer->{status}"
            if $answer->{status} != $status;
        $paid++ if $status < 300;

        push @attempts, attempts($db, $answer->{json}{job_id})
            =~ s/ (?:\d+|-) \S+(?=,|$)//gr;
        push @expected, "p$i-$fault $state" . ($moved ? ', second accepted'
            : '');
    }

    is("@moved", "@moves", "$name: moves on");
    is_deeply(\@wrong, [], "$name: the answers");
    is_deeply(\@attempts, \@expected, "$name: the attempts");
    is(@{ $second->requests }, @moves, "$name: the second one's own log");
    is(balance($db, $user), 1000 - $paid, "$name: the credits");
}

# of "unsent" alone, from the logs of the providers: nothing is asked of the
# second one for what the first one has got

my ($unsent) = grep { $cases[$_][0] eq 'unsent' } 0 .. $#cases;
my $got = grep { $_->{uri} =~ m{^/$unsent/} } @{ $first->requests };
is($got, grep({ ref $faults{$_}[0] } @faults),
    'unsent: the first one got one request for each answer that it gives');

is_deeply([wrong_books($db)], [], 'the books are right');
